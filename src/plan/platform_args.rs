//! Arguments that the builder defines: platforms and proxies.

use fanfold_platforms::Platform;

use super::{PlanError, Request};
use crate::dockerfile::is_own_frontend;

/// `BUILDPLATFORM`, `TARGETARCH` and the like: seen by FROM without declaration, in a stage only
/// after its ARG line.
pub(super) fn platform_args(build: &Platform, target: &Platform, stage: &str) -> Vec<(String, String)> {
    let mut args = Vec::new();
    for (prefix, platform) in [("BUILD", build), ("TARGET", target)] {
        let mut add = |name: &str, value: &str| args.push((format!("{prefix}{name}"), value.to_owned()));
        add("PLATFORM", &platform.to_string());
        add("OS", platform.os());
        add("OSVERSION", platform.os_version().unwrap_or(""));
        add("ARCH", platform.architecture());
        add("VARIANT", platform.variant().unwrap_or(""));
    }
    args.push(("TARGETSTAGE".to_owned(), stage.to_owned()));
    args
}

/// Whether this is the name of an argument that [`platform_args`] defines.
pub(super) fn is_platform_arg(name: &str) -> bool {
    let suffixes = ["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT"];
    let suffix = name.strip_prefix("BUILD").or_else(|| name.strip_prefix("TARGET"));
    name == "TARGETSTAGE" || suffix.is_some_and(|suffix| suffixes.contains(&suffix))
}

const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Whether a build argument of this name reaches RUN without an ARG line, and stays out of history
/// and cache keys.
pub(super) fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| *proxy == name || proxy.to_ascii_lowercase() == name)
}

/// Name space of cache mounts.
pub(super) const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";
/// Host name that commands see.
pub(super) const HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";
/// The frontend, as `# syntax=`.
const SYNTAX: &str = "BUILDKIT_SYNTAX";

/// Build arguments that speak to the builder, not to the Dockerfile. The last three are read where
/// the command line is.
const BUILDER: [&str; 6] = [
    CACHE_NAMESPACE,
    HOSTNAME,
    SYNTAX,
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_MULTI_PLATFORM",
];

/// Has the cache written into the image, as an option does here.
const INLINE_CACHE: &str = "BUILDKIT_INLINE_CACHE";

/// Build arguments that change how BuildKit builds and that mean nothing here. They are refused
/// rather than dropped.
const UNSUPPORTED: [&str; 4] =
    ["BUILDKIT_BUILD_NAME", INLINE_CACHE, "BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Whether a build argument of this name speaks to the builder.
pub(super) fn is_builder_arg(name: &str) -> bool {
    BUILDER.contains(&name)
}

/// Refuses build arguments that ask the builder for something that it does not have.
pub(super) fn refuse_unsupported(request: &Request) -> Result<(), PlanError> {
    if let Some(name) = request.build_args.keys().find(|name| UNSUPPORTED.contains(&name.as_str())) {
        let error = PlanError::request(format!("the build argument {name} is not supported"));
        return Err(match name.as_str() {
            INLINE_CACHE => error.with_hint("use --cache-to type=inline"),
            _ => error.with_hint("drop it"),
        });
    }
    match request.build_args.get(SYNTAX) {
        Some(frontend) if !is_own_frontend(frontend) => Err(PlanError::request(format!(
            "the build argument {SYNTAX}={frontend} names a custom frontend, and none is run"
        ))
        .with_hint("drop it, or name docker/dockerfile:1")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_documented() {
        let args =
            platform_args(&"linux/amd64".parse().unwrap(), &"linux/arm/v7".parse().unwrap(), "default");
        let get = |name: &str| &args.iter().find(|(key, _)| key == name).unwrap().1;
        assert_eq!(get("BUILDPLATFORM"), "linux/amd64");
        assert_eq!(get("TARGETPLATFORM"), "linux/arm/v7");
        assert_eq!(get("TARGETARCH"), "arm");
        assert_eq!(get("TARGETVARIANT"), "v7");
        assert_eq!(get("BUILDVARIANT"), "");
        assert_eq!(get("TARGETSTAGE"), "default");
    }

    #[test]
    fn proxies_in_both_cases() {
        assert!(is_proxy("HTTP_PROXY") && is_proxy("no_proxy"));
        assert!(!is_proxy("Http_Proxy") && !is_proxy("MY_PROXY"));
    }
}
