//! The environment, read once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::progress;
use crate::registry::CredentialFiles;
use crate::source::git::GitEnvironment;

/// Proxies, in both cases.
const NETWORK: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];
/// How long `git` may take for one repository.
const GIT_TIME_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The variables that mean something here.
#[derive(Debug, Clone)]
pub(super) struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// Reads the process's environment.
    pub(super) fn read() -> Self {
        Self { variables: std::env::vars_os().collect() }
    }

    fn os(&self, name: &str) -> Option<OsString> {
        self.variables.get(&OsString::from(name)).filter(|value| !value.is_empty()).cloned()
    }

    /// A variable's value, where it is text and not empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.os(name)?.into_string().ok()
    }

    /// A variable's value, also where it is empty.
    pub(super) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.variables.get(&OsString::from(name)).map(|value| value.clone().into_vec())
    }

    /// Whether a variable is set to nothing but blanks.
    pub(super) fn is_blank(&self, name: &OsStr) -> bool {
        self.variables
            .get(name)
            .is_some_and(|value| value.to_str().is_some_and(|text| text.trim().is_empty()))
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.os(name).map(PathBuf::from)
    }

    /// `PATH`.
    pub(super) fn search_path(&self) -> OsString {
        self.os("PATH")
            .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into())
    }

    /// The store where no `--root` names one.
    pub(super) fn default_root(&self) -> Option<PathBuf> {
        let data = self.path("XDG_DATA_HOME").filter(|path| path.is_absolute());
        let data = data.or_else(|| Some(self.path("HOME")?.join(".local/share")));
        Some(data?.join("fanfold"))
    }

    /// Where credentials are looked for.
    pub(super) fn credentials(&self) -> CredentialFiles {
        CredentialFiles {
            registry_auth_file: self.path("REGISTRY_AUTH_FILE"),
            docker_auth_config: self.text("DOCKER_AUTH_CONFIG"),
            docker_config: self.path("DOCKER_CONFIG"),
            home: self.path("HOME"),
            runtime_dir: self.path("XDG_RUNTIME_DIR"),
            path: self.os("PATH"),
        }
    }

    /// Certificate authorities that are trusted beside the system's.
    pub(super) fn ca_file(&self) -> Option<PathBuf> {
        self.path("SSL_CERT_FILE")
    }

    /// Folders with more of them.
    pub(super) fn ca_dirs(&self) -> Vec<PathBuf> {
        let paths = self.os("SSL_CERT_DIR").unwrap_or_default();
        std::env::split_paths(&paths).filter(|path| !path.as_os_str().is_empty()).collect()
    }

    /// What `git` gets of this machine.
    pub(super) fn git(&self) -> GitEnvironment {
        let network = NETWORK.iter().flat_map(|name| [(*name).to_owned(), name.to_ascii_lowercase()]);
        let network = network.filter_map(|name| Some((name.clone(), self.os(&name)?)));
        GitEnvironment {
            path: self.search_path(),
            network: network
                .chain(self.os("SSL_CERT_FILE").map(|file| ("SSL_CERT_FILE".to_owned(), file)))
                .collect(),
            ssh_agent: self.path("SSH_AUTH_SOCK"),
            known_hosts: self.path("HOME").map(|home| home.join(".ssh/known_hosts")),
            time_limit: GIT_TIME_LIMIT,
        }
    }

    /// What progress needs to know.
    pub(super) fn progress(&self) -> progress::Environment {
        progress::Environment {
            ci: self.text("CI").is_some_and(|value| value != "false" && value != "0"),
            dumb: self.text("TERM").is_some_and(|value| value == "dumb"),
            no_color: self.os("NO_COLOR").is_some(),
        }
    }
}
