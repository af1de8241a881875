//! What this process is and may do: its program, its kernel, its rights, and the calls it may make.
//!
//! Sources: proc_pid_status(5), capabilities(7), the kernel's document on Yama.

use nix::libc;

use super::finding::{Finding, shown};
use super::read;
use crate::sandbox::survey;

/// Names of capabilities by their number, without the prefix.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// What the kernel says of this process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    no_new_privs: bool,
    /// 2 where a filter of calls is in force.
    seccomp: u32,
    filters: Option<u32>,
    capabilities: u64,
}

impl Status {
    /// Reads the content of /proc/self/status; what it lacks is as it is by default.
    pub(super) fn parse(text: &str) -> Self {
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
        };
        let number = |name| field(name).and_then(|value| value.parse().ok());
        Self {
            no_new_privs: field("NoNewPrivs") == Some("1"),
            seccomp: number("Seccomp").unwrap_or(0),
            filters: number("Seccomp_filters"),
            capabilities: field("CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0),
        }
    }

    /// Whether this process and its children gain no rights by executing a program.
    pub(super) fn is_bound(&self) -> bool {
        self.no_new_privs
    }
}

/// What runs here, and on what.
pub(super) fn identity() -> Vec<Finding> {
    let uname = rustix::system::uname();
    let kernel = [uname.sysname(), uname.release(), uname.machine()];
    let [name, release, machine] = kernel.map(|part| part.to_string_lossy().into_owned());
    vec![program(), Finding::good("kernel", format!("{name} {release}, {machine}"))]
}

/// What this process may do.
pub(super) fn rights(status: &Status) -> Vec<Finding> {
    vec![
        capabilities(status.capabilities),
        no_new_privs(status),
        filter(status, survey::call_filter().map_err(shown)),
        listener(survey::call_listener()),
        ptrace(survey::tracing().map_err(shown), read("/proc/sys/kernel/yama/ptrace_scope").as_deref()),
        chroot(survey::chroot().map_err(shown)),
    ]
}

fn program() -> Finding {
    let linked = if cfg!(target_feature = "crt-static") { "statically" } else { "dynamically" };
    let user = rustix::process::geteuid().as_raw();
    let fact = format!("{}, {linked} linked, run by user {user}", env!("CARGO_PKG_VERSION"));
    Finding::good("fanfold", fact)
}

fn no_new_privs(status: &Status) -> Finding {
    if !status.no_new_privs {
        return Finding::good("no_new_privs", "not set: set-user-id programs work");
    }
    Finding::degraded(
        "no_new_privs",
        "set: no program gives this process and its children more rights",
        "newuidmap cannot give subordinate ids, and sudo and su fail in commands",
        "start without it: Kubernetes `allowPrivilegeEscalation: true`, Docker and Podman without \
         `--security-opt no-new-privileges`",
    )
}

fn filter(status: &Status, tried: Result<(), String>) -> Finding {
    let outer = match (status.seccomp, status.filters) {
        (2, Some(count)) => format!("this process is under {count} already"),
        (2, None) => "this process is under some already".to_owned(),
        _ => "this process is under none".to_owned(),
    };
    match tried {
        Ok(()) => Finding::good("seccomp", format!("filters of system calls can be set; {outer}")),
        Err(reason) => Finding::missing(
            "seccomp",
            format!("no filter of system calls can be set: {reason}; {outer}"),
            "RUN fails, as commands are never run without the filter",
            "use a kernel with CONFIG_SECCOMP_FILTER, and a container profile that permits seccomp(2)",
        ),
    }
}

fn listener(tried: std::io::Result<()>) -> Finding {
    let topic = "seccomp listener";
    let cost = "the isolations one-id and ptrace do not work: they need a supervisor of calls";
    match tried {
        Ok(()) => Finding::good(topic, "free: a supervisor can answer the calls of commands"),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Finding::missing(
            topic,
            "taken (EBUSY): whoever started this process answers its calls already",
            cost,
            "start fanfold where no runtime answers calls itself (sysbox, LXD's syscall interception, a build \
             in a build)",
        ),
        Err(error) => Finding::missing(
            topic,
            format!("not to be had: {}", shown(error)),
            cost,
            "use Linux 5.9 or newer, and a container profile that permits seccomp(2)",
        ),
    }
}

fn ptrace(tried: Result<(), String>, scope: Option<&str>) -> Finding {
    let setting = scope.map_or_else(String::new, |scope| format!(" (kernel.yama.ptrace_scope={scope})"));
    match tried {
        Ok(()) => Finding::good("ptrace", format!("works on own children{setting}")),
        Err(reason) => Finding::missing(
            "ptrace",
            format!("refused: {reason}{setting}"),
            "neither the isolation ptrace nor emulation without handlers of the kernel works",
            match scope {
                Some("2" | "3") => "set kernel.yama.ptrace_scope to 1 (3 lasts until the next boot)",
                _ => "use an x86-64 machine, and a container profile that permits ptrace(2)",
            },
        ),
    }
}

fn capabilities(set: u64) -> Finding {
    let (held, lacking): (Vec<_>, Vec<_>) =
        CAPABILITIES.iter().enumerate().partition(|(bit, _)| set & (1 << bit) != 0);
    let list = |some: &[(usize, &&str)]| some.iter().map(|(_, name)| **name).collect::<Vec<_>>().join(", ");
    let fact = match (held.len(), lacking.len()) {
        (0, _) => "none".to_owned(),
        (_, 0) => "all".to_owned(),
        (some, few) if few < some => format!("{some}, without {}", list(&lacking)),
        (some, _) => format!("{some}: {}", list(&held)),
    };
    Finding::good("capabilities", fact)
}

fn chroot(tried: Result<(), String>) -> Finding {
    Finding::good(
        "chroot",
        match tried {
            Ok(()) => "permitted also outside of user namespaces".to_owned(),
            Err(reason) => format!("permitted in user namespaces alone ({reason})"),
        },
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::finding::Verdict;
    use super::*;

    const STATUS: &str = "Name:\tfanfold\nUid:\t1000\t1000\t1000\t1000\nCapInh:\t0000000000000000\n\
        CapEff:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";

    #[test]
    fn status_is_read() {
        let status = Status::parse(STATUS);
        let want = Status { no_new_privs: true, seccomp: 2, filters: Some(3), capabilities: 0xa804_25fb };
        assert_eq!(status, want);
        assert!(status.is_bound());
        assert_eq!(Status::parse("junk\nCapEff:\tzz\nSeccomp:\n"), Status::default());
    }

    #[test]
    fn capabilities_have_names() {
        assert_eq!(capabilities(0).fact, "none");
        assert_eq!(capabilities(0x1ff_ffff_ffff).fact, "all");
        assert_eq!(capabilities(u64::MAX).fact, "all");
        assert_eq!(capabilities(0x1ff_ffff_ffff & !(1 << 24)).fact, "40, without sys_resource");
        assert_eq!(capabilities(1 | 1 << 21 | 1 << 40).fact, "3: chown, sys_admin, checkpoint_restore");
        let docker = capabilities(0xa804_25fb).fact;
        assert!(docker.starts_with("14: chown, ") && docker.ends_with(", audit_write, setfcap"), "{docker}");
    }

    #[test]
    fn a_restricted_container() {
        let status = Status::parse(STATUS);
        assert_eq!(no_new_privs(&status).verdict, Verdict::Degraded);
        assert!(filter(&status, Ok(())).fact.contains("under 3 already"));
        let refused = filter(&status, Err("EPERM".to_owned()));
        assert_eq!(refused.verdict, Verdict::Missing);
        let busy = listener(Err(io::Error::from_raw_os_error(libc::EBUSY)));
        assert!(busy.fact.contains("EBUSY"));
        let old = listener(Err(io::Error::from_raw_os_error(libc::EINVAL)));
        assert!(old.remedy.unwrap().fix.contains("5.9"));
        assert_eq!(listener(Ok(())).verdict, Verdict::Good);
    }

    #[test]
    fn yama_is_named_where_it_refuses() {
        let refused = ptrace(Err("EPERM".to_owned()), Some("3"));
        assert!(refused.fact.contains("ptrace_scope=3"));
        assert!(refused.remedy.unwrap().fix.contains("kernel.yama.ptrace_scope"));
        assert_eq!(ptrace(Ok(()), Some("1")).verdict, Verdict::Good);
        assert!(ptrace(Err("ENOSYS".to_owned()), None).remedy.unwrap().fix.contains("profile"));
        assert!(chroot(Err("EPERM".to_owned())).fact.contains("EPERM"));
    }
}
