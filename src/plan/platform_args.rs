//! Arguments that the builder defines: platforms and proxies.

use fanfold_platforms::Platform;

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

/// Build arguments that change how BuildKit builds and that mean nothing here. They are refused
/// rather than dropped.
const UNSUPPORTED: [&str; 9] = [
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SBOM_SCAN_CONTEXT",
    "BUILDKIT_SBOM_SCAN_STAGE",
];

/// Whether a build argument asks the builder for something that is not supported.
pub(super) fn is_unsupported(name: &str) -> bool {
    UNSUPPORTED.contains(&name) || name == "BUILDKIT_SYNTAX"
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
