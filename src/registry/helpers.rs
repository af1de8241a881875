//! Credential helpers: programs named `docker-credential-<name>`.
//!
//! Protocol: docker/docker-credential-helpers, `get`.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::credentials::Login;
use super::error::{Cause, Failure};
use super::redact::{Secret, mask, mask_words};

/// More output than this is not an answer.
const LONGEST_ANSWER: u64 = 64 * 1024;
/// The user name that marks a secret as an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// Ends a helper with all that it started, also when the future that waits for it is dropped.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // The group is usually gone by now; any answer is fine.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

/// Asks helper `name` for the login to `server`; `None` when it has none.
///
/// # Errors
///
/// Fails for a name that could be a path, a helper that is missing, fails, answers nonsense or takes
/// longer than `timeout`.
pub(super) async fn get(
    name: &str,
    server: &str,
    search: Option<&OsStr>,
    timeout: Duration,
) -> Result<Option<Login>, Failure> {
    let fail =
        |why: String| Failure::lasting(Cause::Credentials(format!("the credential helper `{name}` {why}")));
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || !name.bytes().all(valid) {
        let name = mask_words(name);
        return Err(Failure::lasting(Cause::Credentials(format!(
            "`{name}` is not the name of a credential helper"
        ))));
    }
    let program = format!("docker-credential-{name}");
    let path =
        find(&program, search).ok_or_else(|| fail(format!("is not installed: no `{program}` in PATH")))?;
    let run = tokio::time::timeout(timeout, run(&path, server));
    let (status, output, errors) = match run.await {
        Err(_) => {
            return Err(fail(format!("gave no answer within {} s", timeout.as_secs_f32())));
        }
        Ok(Err(error)) => return Err(fail(format!("cannot be run: {error}"))),
        Ok(Ok(result)) => result,
    };
    let answer = serde_json::from_slice::<Answer>(&output);
    if !status.success() {
        let said = [String::from_utf8_lossy(&output), String::from_utf8_lossy(&errors)];
        if said.iter().any(|text| text.contains("credentials not found")) {
            return Ok(None);
        }
        let said =
            said.iter().find(|text| !text.trim().is_empty()).map(|text| text.to_string()).unwrap_or_default();
        let said = answer.map(|answer| mask(&said, &answer.secret)).unwrap_or(said);
        return Err(fail(format!("failed with {status}: {}", mask_words(&said))));
    }
    match answer {
        // The output itself may be a secret in another form: it is not shown.
        Err(_) => Err(fail("gave an answer that is not of the expected form".to_owned())),
        Ok(answer) if answer.secret.is_empty() => Ok(None),
        Ok(answer) if answer.username == TOKEN_USER => {
            Ok(Some(Login::Identity(answer.username, Secret::new(answer.secret))))
        }
        Ok(answer) => Ok(Some(Login::Password(answer.username, Secret::new(answer.secret)))),
    }
}

fn find(program: &str, search: Option<&OsStr>) -> Option<PathBuf> {
    let executable = |path: &PathBuf| {
        let metadata = std::fs::metadata(path);
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    // A relative directory in PATH would let the build context bring its own helper.
    std::env::split_paths(search?)
        .filter(|path| path.is_absolute())
        .map(|path| path.join(program))
        .find(executable)
}

async fn run(path: &Path, server: &str) -> std::io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let mut child = Command::new(path)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(|id| Group(Pid::from_raw(id)));
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A helper that reads nothing closes its end; its answer decides.
            let _ = stdin.write_all(server.as_bytes()).await;
        }
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ((), output, errors) = tokio::join!(write, read(stdout), read(stderr));
    let (output, errors) = (output?, errors?);
    if output.len() as u64 > LONGEST_ANSWER {
        return Err(std::io::Error::other("it writes too much"));
    }
    let status = child.wait().await?;
    drop(group);
    Ok((status, output, errors))
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(LONGEST_ANSWER + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(script: &str) -> Result<Option<Login>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker-credential-x");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let found = get("x", "r.io", Some(directory.path().as_os_str()), Duration::from_millis(1500)).await;
        found.map_err(|failure| failure.cause.to_string())
    }

    #[tokio::test]
    async fn answers() {
        let password = Some(Login::Password("r.io".into(), Secret::new("s".into())));
        assert_eq!(
            ask(r#"read s; echo "{\"ServerURL\":\"\",\"Username\":\"$s\",\"Secret\":\"s\"}""#).await,
            Ok(password)
        );
        let identity = Some(Login::Identity("<token>".into(), Secret::new("s".into())));
        assert_eq!(ask(r#"echo '{"Username":"<token>","Secret":"s"}'"#).await, Ok(identity));
        assert_eq!(ask("echo credentials not found in native keychain; exit 1").await, Ok(None));
    }

    #[tokio::test]
    async fn faults() {
        for (script, want) in [
            ("sleep 60", "gave no answer within"),
            ("sleep 60 & exit 0", "gave no answer within"),
            ("echo locked >&2; exit 3", "locked"),
            ("echo junk", "not of the expected form"),
            ("yes | head -c 10000000", "writes too much"),
        ] {
            let text = ask(script).await.unwrap_err();
            assert!(text.contains(want), "{script}: {text}");
        }
        let text =
            ask(r#"echo '{"Username":"u","Secret":"hunter"}'; echo hunter hunter2hunter2 >&2; exit 1"#).await;
        assert!(!text.unwrap_err().contains("hunter"));
    }

    #[tokio::test]
    async fn names_are_not_paths() {
        for name in ["", "../x", "a/b", "a b", "a\0"] {
            assert!(
                get(name, "r.io", Some(OsStr::new("/usr/bin")), Duration::from_secs(1)).await.is_err(),
                "{name}"
            );
        }
        let missing = get("nosuch", "r.io", Some(OsStr::new("/usr/bin")), Duration::from_secs(1)).await;
        assert!(missing.unwrap_err().cause.to_string().contains("is not installed"));
    }
}
