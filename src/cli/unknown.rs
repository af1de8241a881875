//! Command lines that clap refuses: what people of other builders mean by a flag, and what to say
//! where there is nothing better than clap's words.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::errors::Failure;

/// Flags of `docker build` and kaniko that have no meaning here, with what to do instead.
const ELSEWHERE: [(&str, &str); 31] = [
    ("--cache", "steps are always looked up in the store; --no-cache turns that off"),
    ("--cache-dir", "the cache is the store: --root DIR"),
    ("--cache-repo", "the cache is the store: --root DIR"),
    ("--cleanup", "drop the flag: nothing of a build stays outside the store"),
    ("--compress", "drop the flag: there is no daemon that the context is sent to"),
    ("--context", "the build context is the last argument: fanfold build [OPTIONS] CONTEXT"),
    ("--cpu-period", "use --cpus NUMBER"),
    ("--cpu-quota", "use --cpus NUMBER"),
    ("--cpu-shares", "use --cpus NUMBER"),
    ("--cpuset-cpus", "start fanfold in a cgroup with the limits that you want"),
    ("--cpuset-mems", "start fanfold in a cgroup with the limits that you want"),
    ("--custom-platform", "use --platform"),
    ("--customPlatform", "use --platform"),
    ("--destination", "use -t NAME --push"),
    ("--digest-file", "use --iidfile FILE"),
    ("--dockerfile", "use -f FILE"),
    ("--force-rm", "drop the flag: there are no containers that could stay"),
    ("--image-name-with-digest-file", "use --metadata-file FILE"),
    ("--insecure", "use --insecure-registry HOST"),
    ("--insecure-pull", "use --insecure-registry HOST"),
    ("--memory-swap", "drop the flag: with --memory a RUN has no swap"),
    ("--no-push", "drop the flag: nothing is pushed without --push"),
    ("--registry-mirror", "name the mirror in FROM, or with --build-context NAME=docker-image://MIRROR/NAME"),
    ("--reproducible", "use --timestamp 0, or SOURCE_DATE_EPOCH"),
    ("--rm", "drop the flag: there are no containers that could stay"),
    ("--security-opt", "drop the flag: no step can be given more privilege than another"),
    ("--single-snapshot", "drop the flag: each instruction that changes files makes one layer"),
    ("--skip-tls-verify", "use --insecure-registry HOST"),
    ("--squash", "drop the flag, or copy the result into a last stage FROM scratch"),
    ("--tar-path", "use -o type=oci,dest=FILE or -o type=docker,dest=FILE"),
    ("--tarPath", "use -o type=oci,dest=FILE or -o type=docker,dest=FILE"),
];

/// A better text than clap's for a wrong command line, where there is one.
pub(super) fn explain(error: &clap::Error) -> Option<Failure> {
    let named = error.get(ContextKind::InvalidArg)?;
    match (error.kind(), named) {
        (ErrorKind::UnknownArgument, ContextValue::String(flag)) => {
            let (_, instead) = ELSEWHERE.iter().find(|(name, _)| name == flag)?;
            Some(Failure::usage(format!("there is no {flag}")).with_hint(*instead))
        }
        (ErrorKind::MissingRequiredArgument, ContextValue::Strings(missing))
            if missing.iter().any(|name| name == "<CONTEXT>") =>
        {
            Some(Failure::usage("the build context is missing").with_hint(
                "end the command with the folder that COPY reads from, e.g. `.`; `-` reads standard input",
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::args::Cli;
    use super::*;

    #[test]
    fn flags_of_others_are_none_of_ours() {
        let command = Cli::command();
        let build = command.find_subcommand("build").unwrap();
        for (flag, _) in ELSEWHERE {
            let name = flag.trim_start_matches('-');
            assert!(build.get_arguments().all(|arg| arg.get_long() != Some(name)), "{flag}");
        }
    }

    #[test]
    fn explained() {
        let table = [
            (vec!["build", "--destination", "x"], true),
            (vec!["build", "--no-push", "."], true),
            (vec!["build"], true),
            (vec!["build", "--nonsense", "."], false),
            (vec!["build", "--jobs", "x", "."], false),
        ];
        for (words, want) in table {
            let line = ["fanfold"].into_iter().chain(words.iter().copied());
            let error = Cli::command().try_get_matches_from(line).unwrap_err();
            assert_eq!(explain(&error).is_some(), want, "{words:?}");
        }
    }
}
