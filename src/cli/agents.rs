//! `--ssh`: agents that RUN mounts can ask for.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::environment::Environment;
use super::errors::Failure;

/// How long an agent of our own may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one `--ssh` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Agent {
    /// The socket of an agent that runs.
    Socket(PathBuf),
    /// Private keys, for an agent of our own.
    Keys(Vec<PathBuf>),
}

/// Agents that were started for this build. They end when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Agents {
    started: Vec<Child>,
    /// Sockets by id.
    pub(super) sockets: BTreeMap<String, PathBuf>,
}

/// Understands all `--ssh`: `default`, `ID`, `ID=SOCKET` or `ID=KEY[,KEY…]`.
pub(super) fn read(texts: &[String], environment: &Environment) -> Result<BTreeMap<String, Agent>, Failure> {
    let mut agents = BTreeMap::new();
    for text in texts {
        let fault = |why: &str, hint: &str| {
            Err(Failure::usage(format!("--ssh {text}: {why}")).with_hint(hint.to_owned()))
        };
        let (id, paths) = text.split_once('=').unwrap_or((text, ""));
        if id.is_empty() {
            return fault("the id is missing", "write --ssh default, or --ssh ID=SOCKET");
        }
        let paths: Vec<PathBuf> =
            paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
        let agent = match paths.as_slice() {
            [] => match environment.text("SSH_AUTH_SOCK") {
                Some(socket) => Agent::Socket(socket.into()),
                None => {
                    return fault(
                        "no agent runs: SSH_AUTH_SOCK is not set",
                        "start ssh-agent, or name a key",
                    );
                }
            },
            [path] if is_socket(path) => Agent::Socket(path.clone()),
            paths => {
                if let Some(path) = paths.iter().find(|path| !path.is_file()) {
                    return fault(
                        &format!("`{}` is neither a socket nor a key", path.display()),
                        "name the socket of an agent, or files with private keys",
                    );
                }
                Agent::Keys(paths.to_vec())
            }
        };
        if let Agent::Socket(path) = &agent
            && !is_socket(path)
        {
            return fault(&format!("`{}` is not a socket", path.display()), "start ssh-agent, or name a key");
        }
        if agents.insert(id.to_owned(), agent).is_some() {
            return fault("this id stands there twice", "give each agent an id of its own");
        }
    }
    Ok(agents)
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

impl Agents {
    /// Starts what has to be started; its sockets are made in `directory`.
    pub(super) fn start(
        wanted: &BTreeMap<String, Agent>,
        directory: &Path,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let mut agents = Self::default();
        for (number, (id, agent)) in wanted.iter().enumerate() {
            let socket = match agent {
                Agent::Socket(socket) => socket.clone(),
                Agent::Keys(keys) => {
                    let socket = directory.join(number.to_string());
                    agents.launch(&socket, keys, environment).map_err(|why| {
                        Failure::usage(format!("--ssh {id}: {why}"))
                            .with_hint("install openssh-client, or name the socket of an agent with the key")
                    })?;
                    socket
                }
            };
            agents.sockets.insert(id.clone(), socket);
        }
        Ok(agents)
    }

    fn launch(&mut self, socket: &Path, keys: &[PathBuf], environment: &Environment) -> Result<(), String> {
        let program = |name: &str| {
            let mut command = Command::new(name);
            command.env_clear().env("PATH", environment.search_path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let agent = program("ssh-agent").arg("-D").arg("-a").arg(socket).spawn();
        self.started.push(agent.map_err(|error| format!("ssh-agent cannot be started: {error}"))?);
        let begun = Instant::now();
        while !is_socket(socket) {
            if begun.elapsed() > PATIENCE {
                return Err("ssh-agent does not begin".to_owned());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        for key in keys {
            let added = program("ssh-add").arg("-q").arg("--").arg(key).env("SSH_AUTH_SOCK", socket).status();
            match added {
                Ok(status) if status.success() => {}
                Ok(_) => {
                    return Err(format!(
                        "ssh-add does not take the key `{}`; it may have a passphrase",
                        key.display()
                    ));
                }
                Err(error) => return Err(format!("ssh-add cannot be started: {error}")),
            }
        }
        Ok(())
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for agent in &mut self.started {
            // One that has ended needs neither.
            drop(agent.kill());
            drop(agent.wait());
        }
    }
}
