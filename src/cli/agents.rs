//! `--ssh`: agents that RUN mounts can ask for.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::environment::Environment;
use super::errors::Failure;

/// How long an agent of our own may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// What an agent of our own is for: it ends with this command, which ends when nobody can write to it any
/// more. So no agent outlives a build that is killed.
const UNTIL_THE_END: &str = "read line; kill \"$SSH_AGENT_PID\"";

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
    /// Commands that agents live as long as, with what they read.
    started: Vec<(Child, Option<ChildStdin>)>,
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
                    let name = number.to_string();
                    agents.launch(directory, &name, keys, environment).map_err(|why| {
                        Failure::usage(format!("--ssh {id}: {why}"))
                            .with_hint("install openssh-client, or name the socket of an agent with the key")
                    })?;
                    directory.join(name)
                }
            };
            agents.sockets.insert(id.clone(), socket);
        }
        Ok(agents)
    }

    /// Starts an agent with the socket `name` in `directory`, and gives it its keys.
    fn launch(
        &mut self,
        directory: &Path,
        name: &str,
        keys: &[PathBuf],
        environment: &Environment,
    ) -> Result<(), String> {
        // The path of a socket has at most 107 bytes: it is named from its own directory.
        let program = |name: &str| {
            let mut command = Command::new(name);
            command.env_clear().env("PATH", environment.search_path()).current_dir(directory);
            command.stdout(Stdio::null());
            command
        };
        let mut agent = program("ssh-agent");
        agent.args(["-a", name, "/bin/sh", "-c", UNTIL_THE_END]).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut agent = agent.spawn().map_err(|error| format!("ssh-agent cannot be started: {error}"))?;
        let input = agent.stdin.take();
        self.started.push((agent, input));
        let begun = Instant::now();
        while !is_socket(&directory.join(name)) {
            let ended =
                self.started.last_mut().is_some_and(|(agent, _)| !matches!(agent.try_wait(), Ok(None)));
            if ended || begun.elapsed() > PATIENCE {
                return Err("ssh-agent does not begin".to_owned());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        for key in keys {
            let file = std::path::absolute(key).map_err(|error| format!("`{}`: {error}", key.display()))?;
            let mut add = program("ssh-add");
            add.args(["-q", "--"]).arg(file).env("SSH_AUTH_SOCK", name).stdin(Stdio::null());
            let added = add.output().map_err(|error| format!("ssh-add cannot be started: {error}"))?;
            if !added.status.success() {
                let said = String::from_utf8_lossy(&added.stderr);
                let said: Vec<_> =
                    said.lines().map(str::trim).filter(|line| line.contains(char::is_alphanumeric)).collect();
                return Err(format!(
                    "ssh-add does not take the key `{}`; it may have a passphrase: {}",
                    key.display(),
                    said.join(" ")
                ));
            }
        }
        Ok(())
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for (agent, input) in &mut self.started {
            drop(input.take());
            // It cannot be waited for twice, which nobody does.
            drop(agent.wait());
        }
    }
}
