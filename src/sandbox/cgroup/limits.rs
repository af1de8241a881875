//! What can be limited, and how both versions of cgroups write and tell it.

/// What each command of a build may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory; nothing of it is swapped out.
    pub memory: Option<u64>,
    /// Processor time, in thousandths of one core.
    pub cpus: Option<u64>,
    /// Processes and threads at the same time.
    pub pids: Option<u64>,
}

/// A kind of limit, and the part of the kernel that keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Memory,
    Cpu,
    Pids,
}

/// The two designs of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    One,
    Two,
}

/// A file of a cgroup that a limit is written to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Kernels without swap have no such file.
    pub(super) optional: bool,
}

/// The span over which processor time is shared out, in microseconds.
const PERIOD: u64 = 100_000;

/// The kernel counts memory in pages, of which the largest have this many bytes.
const LARGEST_PAGE: u64 = 64 << 10;

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn controllers(&self) -> Vec<Controller> {
        let asked = [
            (self.memory.is_some(), Controller::Memory),
            (self.cpus.is_some(), Controller::Cpu),
            (self.pids.is_some(), Controller::Pids),
        ];
        asked.into_iter().filter_map(|(asked, controller)| asked.then_some(controller)).collect()
    }

    /// What a controller has to be told.
    pub(super) fn settings(&self, version: Version, controller: Controller) -> Vec<Setting> {
        let setting = |file, value: String| Setting { file, value, optional: false };
        let optional = |file, value: String| Setting { file, value, optional: true };
        match (controller, version) {
            (Controller::Memory, Version::One) => self.memory.map_or(Vec::new(), |bytes| {
                // The second one is of memory and swap together, and never below the first.
                vec![
                    setting("memory.limit_in_bytes", bytes.to_string()),
                    optional("memory.memsw.limit_in_bytes", bytes.to_string()),
                ]
            }),
            (Controller::Memory, Version::Two) => self.memory.map_or(Vec::new(), |bytes| {
                vec![setting("memory.max", bytes.to_string()), optional("memory.swap.max", "0".to_owned())]
            }),
            (Controller::Cpu, Version::One) => self.cpus.map_or(Vec::new(), |cpus| {
                vec![
                    setting("cpu.cfs_period_us", PERIOD.to_string()),
                    setting("cpu.cfs_quota_us", quota(cpus).to_string()),
                ]
            }),
            (Controller::Cpu, Version::Two) => self
                .cpus
                .map_or(Vec::new(), |cpus| vec![setting("cpu.max", format!("{} {PERIOD}", quota(cpus)))]),
            (Controller::Pids, _) => {
                self.pids.map_or(Vec::new(), |pids| vec![setting("pids.max", pids.to_string())])
            }
        }
    }
}

/// Microseconds of each period for thousandths of a core.
fn quota(cpus: u64) -> u64 {
    cpus.saturating_mul(PERIOD / 1000)
}

impl Controller {
    /// The kernel's name for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }

    /// The flag that asks for it.
    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::Memory => "--memory",
            Self::Cpu => "--cpus",
            Self::Pids => "--pids",
        }
    }
}

impl Setting {
    /// Whether the kernel has taken the value, by what it says afterwards.
    pub(super) fn is_taken(&self, read: &str) -> bool {
        let read = read.trim();
        match (self.value.parse::<u64>(), read.parse::<u64>()) {
            (Ok(wanted), Ok(found)) => found <= wanted && wanted - found < LARGEST_PAGE,
            _ => read == self.value,
        }
    }
}

/// The number after a word in a file of `word number` lines.
pub(super) fn counter(text: &str, word: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == word)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Limits = Limits { memory: Some(64 << 20), cpus: Some(1500), pids: Some(20) };

    #[test]
    fn settings_of_both_versions() {
        let table = [
            (
                Version::One,
                Controller::Memory,
                "memory.limit_in_bytes=67108864 memory.memsw.limit_in_bytes=67108864",
            ),
            (Version::Two, Controller::Memory, "memory.max=67108864 memory.swap.max=0"),
            (Version::One, Controller::Cpu, "cpu.cfs_period_us=100000 cpu.cfs_quota_us=150000"),
            (Version::Two, Controller::Cpu, "cpu.max=150000 100000"),
            (Version::One, Controller::Pids, "pids.max=20"),
            (Version::Two, Controller::Pids, "pids.max=20"),
        ];
        for (version, controller, want) in table {
            let settings = ALL.settings(version, controller);
            let shown: Vec<_> = settings.iter().map(|set| format!("{}={}", set.file, set.value)).collect();
            assert_eq!(shown.join(" "), want);
            assert!(Limits::default().settings(version, controller).is_empty());
        }
        assert_eq!(ALL.controllers(), [Controller::Memory, Controller::Cpu, Controller::Pids]);
        assert!(Limits::default().is_empty() && !ALL.is_empty());
    }

    #[test]
    fn memory_is_taken_in_whole_pages() {
        let set = |value: &str| Setting { file: "f", value: value.to_owned(), optional: false };
        assert!(set("67108865").is_taken("67108864\n"));
        assert!(set("150000 100000").is_taken("150000 100000\n"));
        assert!(!set("67108864").is_taken("9223372036854771712\n"));
        assert!(!set("67108864").is_taken("max\n") && !set("67108864").is_taken("1048576\n"));
    }

    #[test]
    fn counters_are_found() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(counter(text, "oom_kill"), Some(3));
        assert_eq!(counter(text, "oom"), None);
        assert_eq!(counter("max x\n", "max"), None);
    }
}
