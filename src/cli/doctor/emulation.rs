//! How programs of foreign processors could run: handlers of the host, of the build, and interpreters.

use fanfold_platforms::Platform;
use fanfold_qemu::Registered;

use super::super::host::{Execution, Machine};
use super::finding::{Finding, shown};
use crate::sandbox::Binfmt;

/// Where the host's handlers can be read.
const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";
/// What a handler of the host must do: open its interpreter when it is registered, and keep `argv[0]`.
const NEEDED: &str = "PF";
/// With this as well, programs that are set-user-id get their owner's rights.
const WANTED: &str = "C";

/// A handler of the host for foreign programs, by its name.
pub(super) type Named = (String, Registered);

/// Reads the handlers of the host that take programs of one of these platforms.
pub(super) fn host(platforms: &[Platform]) -> Result<Vec<Named>, String> {
    let programs: Vec<_> = platforms.iter().filter_map(fanfold_qemu::probe).collect();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(HANDLERS).map_err(shown)? {
        let Ok(entry) = entry else { continue };
        let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
        let handler = Registered::parse(&text);
        let handler = handler.filter(|handler| programs.iter().any(|program| handler.takes(program)));
        found.extend(handler.map(|handler| (entry.file_name().to_string_lossy().into_owned(), handler)));
    }
    found.sort_by(|one, next| one.0.cmp(&next.0));
    Ok(found)
}

/// Whether the build can have handlers of its own. Call it inside the entered namespaces, when no other
/// handler is needed any more.
pub(super) fn private() -> Result<(), String> {
    Binfmt::mount().map(drop).map_err(shown)
}

/// The findings of handlers.
pub(super) fn handlers(host: &Result<Vec<Named>, String>, private: &Result<(), String>) -> Vec<Finding> {
    vec![own_handlers(private), host_handlers(host, private.is_ok())]
}

fn own_handlers(private: &Result<(), String>) -> Finding {
    let topic = "private handlers";
    match private {
        Ok(()) => Finding::good(topic, "can be registered in a binfmt_misc that only the build sees"),
        Err(reason) => Finding::missing(
            topic,
            reason.clone(),
            "emulation needs handlers of the host, or rewrites the calls that execute programs, where sudo and su \
             fail",
            "use Linux 6.7 or newer with CONFIG_BINFMT_MISC (modprobe binfmt_misc), and make user namespaces work",
        ),
    }
}

fn host_handlers(host: &Result<Vec<Named>, String>, private: bool) -> Finding {
    let topic = "host handlers";
    let unneeded = "not needed, as builds have their own";
    let cost = "emulation rewrites the calls that execute programs, where sudo and su fail";
    let fix = "register them as root of the machine: install qemu-user-static (Debian 12) or qemu-user-binfmt \
               (Debian 13), or run `docker run --privileged --rm tonistiigi/binfmt --install all`";
    let found = match host {
        Ok(found) if !found.is_empty() => found,
        none => {
            let reason = match none {
                Err(reason) => format!("cannot be read: {reason}"),
                Ok(_) => "none for foreign programs".to_owned(),
            };
            if private {
                return Finding::good(topic, format!("{reason}; {unneeded}"));
            }
            return Finding::missing(topic, reason, cost, fix);
        }
    };
    let lines: Vec<_> = found.iter().map(|(name, handler)| describe(name, handler)).collect();
    let fact = lines.join("; ");
    if private {
        return Finding::good(topic, format!("{fact}; {unneeded}"));
    }
    if found.iter().all(|(_, handler)| handler.lacks(NEEDED).is_empty() && handler.lacks(WANTED).is_empty()) {
        return Finding::good(topic, fact);
    }
    Finding::degraded(
        topic,
        fact,
        "without F or P a handler is of no use to builds, without C sudo and su fail in emulated commands",
        "register them with the flags POCF: `docker run --privileged --rm tonistiigi/binfmt --install all`",
    )
}

fn describe(name: &str, handler: &Registered) -> String {
    let lacking = [handler.lacks(NEEDED), handler.lacks(WANTED)].concat();
    let lacking = if lacking.is_empty() { String::new() } else { format!(", lacks {lacking}") };
    format!("{name} ({}, flags {}{lacking})", handler.interpreter.display(), handler.flags)
}

/// A finding for each interpreter that these platforms need, as far as the processor does not run them.
pub(super) fn interpreters(platforms: &[Platform], machine: &Machine) -> Vec<Finding> {
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for platform in platforms {
        let Some(key) = fanfold_qemu::handler_key(platform) else { continue };
        if seen.contains(&key) {
            continue;
        }
        let topic = format!("interpreter {key}");
        match machine.expected(platform) {
            Execution::Native => continue,
            Execution::Emulated(emulator) => {
                let fact = format!("{}, {}", emulator.label(), emulator.path().display());
                found.push(Finding::good(topic, fact));
            }
            Execution::Unavailable { reasons, fix } => {
                let reason = reasons.last().cloned().unwrap_or_default();
                let reason = reason.strip_prefix("emulation: ").unwrap_or(&reason).to_owned();
                let cost = format!("RUN for {platform} works only with a handler of the host");
                found.push(Finding::missing(topic, reason, cost, fix));
            }
        }
        seen.push(key);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn named(flags: &str) -> Named {
        let text = format!(
            "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: {flags}\noffset 0\n\
             magic 7f454c460201010000000000000000000200b700\n"
        );
        ("qemu-aarch64".to_owned(), Registered::parse(&text).unwrap())
    }

    #[test]
    fn handlers_of_the_host_are_needed_without_private_ones() {
        let verdict = |host, private| host_handlers(&host, private).verdict;
        assert_eq!(verdict(Ok(Vec::new()), true), Verdict::Good);
        assert_eq!(verdict(Ok(Vec::new()), false), Verdict::Missing);
        assert_eq!(verdict(Err("ENOENT".to_owned()), false), Verdict::Missing);
        assert_eq!(verdict(Ok(vec![named("POCF")]), false), Verdict::Good);
        assert_eq!(verdict(Ok(vec![named("OPF")]), false), Verdict::Degraded);
        let fact = host_handlers(&Ok(vec![named("OC")]), false).fact;
        assert_eq!(fact, "qemu-aarch64 (/usr/bin/qemu-aarch64, flags OC, lacks PF)");
    }

    #[test]
    fn private_handlers() {
        assert_eq!(own_handlers(&Ok(())).verdict, Verdict::Good);
        let old = own_handlers(&Err("kernel older than 6.7".to_owned()));
        assert_eq!(old.verdict, Verdict::Missing);
        assert!(old.remedy.unwrap().fix.contains("6.7"));
        assert_eq!(handlers(&Ok(Vec::new()), &Ok(())).len(), 2);
    }
}
