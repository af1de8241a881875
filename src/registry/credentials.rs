//! Where logins come from: credential files in order, and the helper programs that they name.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use super::auth_file::{self, AuthFile};
use super::error::{Cause, Failure};
use super::helpers;
use super::redact::Secret;

/// Under this name credential files know Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// Where a pod that was made for kaniko mounts its credentials.
const KANIKO_FILE: &str = "/kaniko/.docker/config.json";

/// Where credentials are looked for, in this order; read when a registry first asks for them.
///
/// The fields are named by the environment variables that they come from.
#[derive(Clone, Default)]
pub struct CredentialFiles {
    /// `$REGISTRY_AUTH_FILE`.
    pub registry_auth_file: Option<PathBuf>,
    /// `$DOCKER_AUTH_CONFIG`: the content of a credential file, not its path.
    pub docker_auth_config: Option<String>,
    /// `$DOCKER_CONFIG`: a directory with `config.json` or `.dockerconfigjson`.
    pub docker_config: Option<PathBuf>,
    /// `$HOME`, for `.docker/config.json`.
    pub home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`, for `containers/auth.json`.
    pub runtime_dir: Option<PathBuf>,
    /// `$PATH`, for credential helpers.
    pub path: Option<OsString>,
}

impl fmt::Debug for CredentialFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialFiles")
            .field("registry_auth_file", &self.registry_auth_file)
            .field("docker_auth_config", &self.docker_auth_config.as_ref().map(|_| "***"))
            .field("docker_config", &self.docker_config)
            .field("home", &self.home)
            .field("runtime_dir", &self.runtime_dir)
            .finish_non_exhaustive()
    }
}

/// What proves who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// User and password.
    Password(String, Secret),
    /// A refresh token, to be exchanged for access tokens; with the user it is for.
    Identity(String, Secret),
    /// An access token to be used as it is.
    Bearer(Secret),
}

/// A login with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credential {
    /// The login.
    pub(super) login: Login,
    /// Tells apart credentials for one registry: origin and user.
    pub(super) identity: String,
    /// Whether asking the helper program again may give a fresher one.
    pub(super) from_helper: bool,
}

/// Finds the credential for a repository.
#[derive(Debug)]
pub(super) struct CredentialStore {
    files: CredentialFiles,
    helper_timeout: Duration,
    read: OnceLock<Result<Vec<AuthFile>, String>>,
}

impl CredentialStore {
    /// Nothing is read yet.
    pub(super) fn new(files: CredentialFiles, helper_timeout: Duration) -> Self {
        Self { files, helper_timeout, read: OnceLock::new() }
    }

    /// The credential for `registry/path`, asking helper programs where the files name them.
    ///
    /// # Errors
    ///
    /// Fails for a file that cannot be read or parsed and for a helper that fails.
    pub(super) async fn find(&self, registry: &str, path: &str) -> Result<Option<Credential>, Failure> {
        let read = self.read.get_or_init(|| self.files.read());
        let files = read.as_ref().map_err(|text| Failure::lasting(Cause::Configuration(text.clone())))?;
        for file in files {
            if let Some(name) = file.helper(registry, path) {
                let server = if registry == "docker.io" { HUB_KEY } else { registry };
                let search = self.files.path.as_deref();
                if let Some(login) = helpers::get(name, server, search, self.helper_timeout).await? {
                    let origin = format!("docker-credential-{name}");
                    return Ok(Some(Credential::new(login, &origin, true)));
                }
            }
            let login = file.login(registry, path);
            let login = login.map_err(|text| Failure::lasting(Cause::Configuration(text)))?;
            if let Some(login) = login {
                return Ok(Some(Credential::new(login, &file.origin, false)));
            }
        }
        Ok(None)
    }
}

impl Credential {
    fn new(login: Login, origin: &str, from_helper: bool) -> Self {
        let user = match &login {
            Login::Password(user, _) | Login::Identity(user, _) => user,
            Login::Bearer(_) => "",
        };
        let identity = format!("{user} of {origin}");
        Self { login, identity, from_helper }
    }
}

impl CredentialFiles {
    fn read(&self) -> Result<Vec<AuthFile>, String> {
        let docker = self.docker_config.as_deref();
        let under =
            |directory: &Option<PathBuf>, rest: &str| directory.as_deref().map(|path| path.join(rest));
        let first = [self.registry_auth_file.clone()];
        let later = [
            docker.map(|path| path.join("config.json")),
            docker.map(|path| path.join(".dockerconfigjson")),
            under(&self.home, ".docker/config.json"),
            under(&self.runtime_dir, "containers/auth.json"),
            Some(PathBuf::from(KANIKO_FILE)),
        ];
        let mut files = Vec::new();
        for path in first.into_iter().flatten() {
            files.extend(auth_file::read(&path, false)?);
        }
        if let Some(text) = self.docker_auth_config.as_deref().filter(|text| !text.trim().is_empty()) {
            files.push(auth_file::parse("$DOCKER_AUTH_CONFIG".to_owned(), text.as_bytes())?);
        }
        for path in later.into_iter().flatten() {
            files.extend(auth_file::read(&path, true)?);
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn earlier_files_win() {
        let directory = tempfile::tempdir().unwrap();
        let text = |user: &str| format!(r#"{{"auths":{{"r.io":{{"username":"{user}","password":"p"}}}}}}"#);
        let write = |name: &str, user: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text(user)).unwrap();
            path
        };
        let at = |name: &str| Some(directory.path().join(name));
        write("home/.docker/config.json", "home");
        write("run/containers/auth.json", "run");
        let mut files = CredentialFiles {
            home: at("home"),
            runtime_dir: at("run"),
            docker_config: at("none"),
            ..Default::default()
        };
        let find = async |files: &CredentialFiles| {
            let store = CredentialStore::new(files.clone(), Duration::from_secs(5));
            match store.find("r.io", "x").await.unwrap().unwrap().login {
                Login::Password(user, _) => user,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(find(&files).await, "home");
        write("config/config.json", "config");
        files.docker_config = at("config");
        assert_eq!(find(&files).await, "config");
        files.docker_auth_config = Some(text("text"));
        assert_eq!(find(&files).await, "text");
        files.registry_auth_file = Some(write("auth.json", "flag"));
        assert_eq!(find(&files).await, "flag");
        assert!(!format!("{files:?}").contains("auths"));
    }
}
