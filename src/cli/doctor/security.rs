//! Policies of the kernel beside the rights of users.
//!
//! Sources: landlock(7), the kernel's documents on security modules, selinux(8), apparmor(7).

use super::finding::{Finding, shown};
use super::read;
use crate::sandbox::survey;

/// The oldest version of Landlock that is of use: before it nothing could be moved between directories.
const LANDLOCK: u32 = 2;

/// All findings of this file.
pub(super) fn find() -> Vec<Finding> {
    let modules = Modules {
        names: read("/sys/kernel/security/lsm"),
        apparmor: read("/proc/self/attr/apparmor/current").or_else(|| {
            let enabled = read("/sys/module/apparmor/parameters/enabled").is_some_and(|value| value == "Y");
            read("/proc/self/attr/current").filter(|_| enabled)
        }),
        selinux: read("/sys/fs/selinux/enforce"),
        context: read("/proc/self/attr/current"),
    };
    vec![landlock(survey::landlock_version().map_err(shown)), modules.judge()]
}

fn landlock(version: Result<u32, String>) -> Finding {
    let cost = "with the isolation ptrace, the supervisor alone keeps commands in their root";
    let fix = "use Linux 5.19 or newer with landlock in the boot parameter `lsm=`";
    match version {
        Ok(version) if version >= LANDLOCK => Finding::good("Landlock", format!("version {version}")),
        Ok(version) => {
            Finding::degraded("Landlock", format!("version {version}, {LANDLOCK} is needed"), cost, fix)
        }
        Err(reason) => Finding::missing("Landlock", format!("not to be had: {reason}"), cost, fix),
    }
}

/// What the files of security modules hold, where they exist.
#[derive(Debug, Default)]
struct Modules {
    names: Option<String>,
    /// `unconfined`, or a profile and its mode.
    apparmor: Option<String>,
    /// `1` where SELinux enforces.
    selinux: Option<String>,
    context: Option<String>,
}

impl Modules {
    fn judge(&self) -> Finding {
        let topic = "security modules";
        let clean =
            |text: &Option<String>| text.clone().unwrap_or_default().trim_end_matches('\0').to_owned();
        let cost = "it may refuse mounts (overlays, /proc, private handlers) and tracing to builds";
        let profile = clean(&self.apparmor);
        if self.selinux.as_deref() == Some("1") {
            let context = clean(&self.context);
            let fact = format!("SELinux enforces, for this process as {context}");
            if !context.contains(":container_t:") {
                return Finding::good(topic, fact);
            }
            let fix =
                "start the container with `--security-opt label=disable`, or seLinuxOptions of your own";
            return Finding::degraded(topic, fact, cost, fix);
        }
        if !profile.is_empty() && !profile.starts_with("unconfined") {
            let fact = format!("AppArmor confines this process by {profile}");
            if profile.ends_with("(complain)") {
                return Finding::good(topic, fact);
            }
            let fix = "start the container with `--security-opt apparmor=unconfined` (Kubernetes: \
                       appArmorProfile type Unconfined), or permit userns and mount in the profile";
            return Finding::degraded(topic, fact, cost, fix);
        }
        let names =
            self.names.as_deref().map_or_else(|| "unknown".to_owned(), |names| names.replace(',', ", "));
        Finding::good(topic, format!("none confines this process (in the kernel: {names})"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn versions_of_landlock() {
        assert_eq!(landlock(Ok(6)).verdict, Verdict::Good);
        assert_eq!(landlock(Ok(1)).verdict, Verdict::Degraded);
        assert_eq!(landlock(Err("ENOSYS".to_owned())).verdict, Verdict::Missing);
    }

    #[test]
    fn policies() {
        let text = |text: &str| Some(text.to_owned());
        let apparmor = |profile| Modules { apparmor: text(profile), ..Modules::default() }.judge();
        assert_eq!(apparmor("unconfined").verdict, Verdict::Good);
        assert_eq!(apparmor("x (complain)").verdict, Verdict::Good);
        let docker = apparmor("docker-default (enforce)");
        assert_eq!(docker.verdict, Verdict::Degraded);
        assert!(docker.fact.contains("docker-default"));
        let selinux =
            |context| Modules { selinux: text("1"), context: text(context), ..Modules::default() }.judge();
        assert_eq!(selinux("system_u:system_r:container_t:s0:c1,c2\0").verdict, Verdict::Degraded);
        assert_eq!(selinux("unconfined_u:unconfined_r:unconfined_t:s0").verdict, Verdict::Good);
        assert!(Modules::default().judge().fact.contains("unknown"));
    }
}
