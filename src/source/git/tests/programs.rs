//! Programs and servers that misbehave, and what they are told.

use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::super::{GitRequest, resolve};
use super::{Client, Server, git, sample};
use crate::dockerfile::GitAddress;
use crate::secrets::Secrets;
use crate::source::SourceError;

/// A program in place of git.
fn fake(client: &mut Client, script: &str) -> PathBuf {
    let directory = client.directory.path().join("bin");
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("git");
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    client.environment.path = format!("{}:/usr/bin:/bin", directory.display()).into();
    directory
}

#[test]
fn programs_that_misbehave() {
    let mut client = Client::new();
    client.environment.path = "relative:/nonexistent".into();
    let error = client.fetch("git://h/a").unwrap_err();
    assert!(error.contains("`git` was not found") && error.contains("apt-get"), "{error}");

    fake(&mut client, "echo 'fatal: https://u:pw@h/ says \u{1b}[31mno' >&2; exit 128");
    let error = client.fetch("git://h/a").unwrap_err();
    assert!(error.contains("list the references of git://h/a: https://h/ says \\u{1b}[31mno"), "{error}");

    fake(&mut client, "exit 3");
    assert!(client.fetch("git://h/a").unwrap_err().contains("git ended with exit status: 3"));

    fake(&mut client, "cat /dev/urandom | head -c 3000000; exit 0");
    assert!(client.fetch("git://h/a").unwrap_err().contains("is empty"));

    fake(&mut client, "head -c 100000000 /dev/zero >&2; echo >&2; echo end >&2; exit 1");
    assert!(client.fetch("git://h/a").unwrap_err().contains("end"));

    client.environment.time_limit = Duration::from_secs(1);
    fake(&mut client, "trap '' TERM; exec sleep 1000");
    let error = client.fetch("git://h/a").unwrap_err();
    assert!(error.contains("it took longer than 1 seconds"), "{error}");

    client.environment.time_limit = Duration::from_secs(100);
    let asked = Cell::new(0);
    let address = GitAddress::parse("git://h/a").unwrap().unwrap();
    let environment = &client.environment;
    let request = GitRequest { address: &address, checksum: None, keep_git_dir: None, now: 0, environment };
    let cancel = || asked.replace(asked.get() + 1) > 2;
    let stopped = resolve(&request, client.directory.path(), &client.cache(), &client.secrets, &cancel);
    assert!(matches!(stopped, Err(SourceError::Git(error)) if error.is_cancelled()));
}

#[test]
fn credentials_are_in_the_environment_alone() {
    let mut client = Client::new();
    client.secrets.insert("GIT_AUTH_TOKEN.h", &b"token-of-mine"[..]);
    client.environment.network = vec![("HTTPS_PROXY".to_owned(), "http://proxy:1".into())];
    let bin = fake(
        &mut client,
        "env | sort > $(dirname $0)/env; echo \"$@\" > $(dirname $0)/args\n\
         echo \"fatal: $GIT_CONFIG_VALUE_0 Authentication failed\" >&2; exit 128",
    );
    for (address, key, value) in [
        ("https://h/a.git", "http.https://h/.extraHeader", "eC1hY2Nlc3MtdG9rZW46dG9rZW4tb2YtbWluZQ=="),
        ("https://someone:password@h/a.git", "http.https://h/.extraHeader", "c29tZW9uZTpwYXNzd29yZA=="),
    ] {
        let error = client.fetch(address).unwrap_err();
        let read = |name| fs::read_to_string(bin.join(name)).unwrap();
        let (environment, arguments) = (read("env"), read("args"));
        assert!(environment.contains(&format!("GIT_CONFIG_KEY_0={key}\n")), "{environment}");
        assert!(environment.contains(&format!("GIT_CONFIG_VALUE_0=Authorization: Basic {value}\n")));
        assert!(environment.contains("HTTPS_PROXY=http://proxy:1"));
        assert!(!environment.contains("CARGO"), "{environment}");
        for secret in ["token-of-mine", "password", value] {
            assert!(!arguments.contains(secret) && !error.contains(secret), "{arguments} {error}");
        }
        assert!(arguments.contains("http.followRedirects=false"));
        assert!(error.contains("***") && error.contains("GIT_AUTH_TOKEN"), "{error}");
    }
}

#[test]
fn ssh_knows_no_host_by_itself() {
    let mut client = Client::new();
    let known = client.directory.path().join("known 'hosts");
    fs::write(&known, "h ssh-ed25519 AAAA\n").unwrap();
    let bin = fake(&mut client, "exec /usr/bin/git \"$@\"");
    let ssh = bin.join("ssh");
    let script = "#!/bin/sh\necho \"$@\" > $(dirname $0)/ssh-args\ncat known_hosts >> $(dirname $0)/ssh-args\n\
                  echo agent $SSH_AUTH_SOCK >> $(dirname $0)/ssh-args\necho 'Host key verification failed.' >&2\nexit 255\n";
    fs::write(&ssh, script).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let error = client.fetch("git@h:a").unwrap_err();
    assert!(error.contains("ssh-keyscan"), "{error}");
    let read = || fs::read_to_string(bin.join("ssh-args")).unwrap();
    assert!(
        read().contains("UserKnownHostsFile=none") && read().contains("IdentityAgent=none"),
        "{}",
        read()
    );
    client.environment.known_hosts = Some(known);
    client.environment.ssh_agent = Some("/run/agent".into());
    client.fetch("git@h:a").unwrap_err();
    for want in [
        "StrictHostKeyChecking=yes",
        "UserKnownHostsFile=known_hosts",
        "h ssh-ed25519 AAAA",
        "agent /run/agent",
    ] {
        assert!(read().contains(want), "{want}: {}", read());
    }
}

/// Serves a folder over HTTP, as any web server does, to those who send the right header.
fn web_server(folder: PathBuf, authorization: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split([' ', '?']).nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
            let allowed = head.lines().any(|line| line == format!("Authorization: {authorization}"));
            let (status, body) = match fs::read(folder.join(&path)) {
                _ if !allowed => ("401 Unauthorized", Vec::new()),
                _ if path.starts_with("moved") => ("301 Moved\r\nLocation: http://127.0.0.1:1/", Vec::new()),
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let answer =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            drop(std::io::Write::write_all(&mut stream, &[answer.as_bytes(), &body].concat()));
        }
    });
    port
}

#[test]
fn plain_web_servers_and_credentials() {
    let server = Server::start();
    let (old, new) = sample(&server);
    git(server.folder.path(), &["clone", "-q", "--bare", "r", "web.git"]);
    git(&server.path("web.git"), &["update-server-info"]);
    let port = web_server(server.folder.path().to_owned(), "Basic eC1hY2Nlc3MtdG9rZW46dG9rZW4tb2YtbWluZQ==");
    let mut client = Client::new();
    let url = |rest: &str| format!("http://127.0.0.1:{port}/{rest}");
    let error = client.fetch(&url("web.git")).unwrap_err();
    assert!(error.contains("|give a token as secret"), "{error}");
    for (id, secret, works) in [
        ("GIT_AUTH_TOKEN", "wrong-token", false),
        ("GIT_AUTH_TOKEN.other", "token-of-mine", false),
        ("GIT_AUTH_TOKEN", "token-of-mine", true),
        ("GIT_AUTH_TOKEN.127.0.0.1", "token-of-mine\n", true),
    ] {
        client.secrets = Secrets::default();
        client.secrets.insert(id, secret.as_bytes());
        let result = client.fetch(&url("web.git"));
        assert_eq!(result.is_ok(), works, "{id}: {result:?}");
    }
    // Such a server gives everything or nothing.
    for (reference, commit) in [("v0", &old), ("main", &new), (&new[..7], &new)] {
        assert_eq!(client.fetch(&url(&format!("web.git#{reference}"))).unwrap().commit, **commit);
    }
    let error = client.fetch(&url("moved.git")).unwrap_err();
    assert!(error.contains("|with credentials no redirection is followed"), "{error}");
    let error =
        client.fetch(&format!("http://x-access-token:wrong-one@127.0.0.1:{port}/web.git")).unwrap_err();
    assert!(error.contains("|give a token") && !error.contains("wrong-one"), "{error}");
    client.secrets = Secrets::default();
    let url = format!("http://x-access-token:token-of-mine@127.0.0.1:{port}/web.git");
    assert_eq!(client.fetch_as(&url, None, Some(true)).unwrap().commit, new);
    let found =
        Command::new("grep").args(["-rlaE", "token-of-mine|eC1hY2"]).arg(client.directory.path()).output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
}
