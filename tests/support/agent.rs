//! An ssh agent with one key, of the user that builds run as in a world.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use super::run::Run;
use super::world::World;

/// A running agent. It ends with the guard, and also when the test program is killed.
#[derive(Debug)]
pub(crate) struct SshAgent {
    socket: PathBuf,
    key: PathBuf,
    public: String,
    child: Child,
    /// The agent's shell waits for the end of this pipe.
    lifeline: Option<ChildStdin>,
}

const SUPERVISOR: &str = r#"
ssh-agent -D -a "$1" >/dev/null &
agent=$!
cat >/dev/null
kill "$agent" 2>/dev/null
wait "$agent" 2>/dev/null
"#;

impl SshAgent {
    /// Makes a key without passphrase in the world's folder `ssh`, and starts an agent that holds it.
    pub(crate) fn start(world: &World) -> Self {
        let dir = world.folder("ssh");
        let (socket, key) = (dir.join("agent"), dir.join("key"));
        let run = |program: &str, args: &[&str]| {
            let mut command = world.command(program);
            command.args(args).env("SSH_AUTH_SOCK", &socket);
            Run::new(command).run().success()
        };
        let path = key.to_str().expect("UTF-8");
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", path]);
        let mut shell = world.command("sh");
        shell.args(["-c", SUPERVISOR, "ssh-agent"]).arg(&socket).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = shell.spawn().expect("sh");
        let lifeline = child.stdin.take();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !socket.exists() {
            assert!(Instant::now() < deadline, "ssh-agent did not start (package openssh-client)");
            std::thread::sleep(Duration::from_millis(5));
        }
        run("ssh-add", &["-q", path]);
        let public = std::fs::read_to_string(key.with_extension("pub")).expect("the public key");
        let public = public.split(' ').nth(1).expect("a key").to_owned();
        Self { socket, key, public, child, lifeline }
    }

    /// The agent's socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The private key's file.
    pub(crate) fn key(&self) -> &Path {
        &self.key
    }

    /// The public key, as in `ssh-add -L`: base64.
    pub(crate) fn public(&self) -> &str {
        &self.public
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.child.wait();
    }
}
