//! Real repositories, honest and hostile, from a real server.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::*;
use crate::dockerfile::GitAddress;
use crate::layer::{Change, EntryKind};
use crate::secrets::Secrets;
use crate::source::{Context, SourceError};

/// Where the machine's programs are.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// When all commits of these tests are made.
const TIME: i64 = 1_700_000_000;

/// A folder of repositories and a `git daemon` that serves it.
struct Server {
    folder: TempDir,
    port: u16,
    daemon: Child,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Between finding a free port and taking it, another test may be quicker.
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut daemon = Command::new("/usr/lib/git-core/git-daemon")
                .args(["--reuseaddr", "--export-all", "--listen=127.0.0.1", &format!("--port={port}")])
                .arg(format!("--base-path={}", folder.path().display()))
                .arg(folder.path())
                .env("PATH", PATH)
                .env("HOME", folder.path())
                .process_group(0)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(10) && daemon.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { folder, port, daemon };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            drop(daemon.kill());
            drop(daemon.wait());
        }
        panic!("git daemon does not start");
    }

    fn stop(&mut self) {
        killpg(Pid::from_raw(self.daemon.id() as i32), Signal::SIGKILL).ok();
        drop(self.daemon.wait());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self, rest: &str) -> String {
        format!("git://127.0.0.1:{}/{rest}", self.port)
    }

    /// An empty repository, with a work tree that the server does not mind.
    fn repository(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        git(&path, &["init", "-q", "-b", "main"]);
        path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs git as somebody who makes repositories.
fn git(directory: &Path, arguments: &[&str]) -> String {
    git_with(directory, arguments, b"")
}

fn git_with(directory: &Path, arguments: &[&str], input: &[u8]) -> String {
    let date = format!("{TIME} +0000");
    let mut child = Command::new("git")
        .args(["-c", "protocol.file.allow=always", "-c", "core.protectNTFS=false"])
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs([("PATH", PATH), ("HOME", "/nonexistent"), ("GIT_CONFIG_NOSYSTEM", "1"), ("LC_ALL", "C")])
        .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@example.com"), ("GIT_AUTHOR_DATE", &date)])
        .envs([("GIT_COMMITTER_NAME", "C"), ("GIT_COMMITTER_EMAIL", "c@example.com")])
        .env("GIT_COMMITTER_DATE", &date)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit_all(repository: &Path, message: &str) -> String {
    git(repository, &["add", "-A"]);
    git(repository, &["commit", "-q", "--allow-empty", "-m", message]);
    git(repository, &["rev-parse", "HEAD"])
}

/// A repository with what trees can hold; gives the commits `v0` and `v1`.
fn sample(server: &Server) -> (String, String) {
    let path = server.repository("r");
    fs::write(path.join("a.txt"), "old").unwrap();
    let old = commit_all(&path, "old");
    git(&path, &["tag", "v0"]);
    fs::write(path.join("a.txt"), "new").unwrap();
    fs::write(path.join("same.txt"), "new").unwrap();
    fs::create_dir_all(path.join("d/e")).unwrap();
    fs::write(path.join("d/e/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(path.join("d/e/run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../../../etc/passwd", path.join("d/out")).unwrap();
    fs::write(path.join(std::ffi::OsStr::from_bytes(b"odd \n\xff -x")), "odd").unwrap();
    fs::write(path.join("empty"), "").unwrap();
    fs::write(path.join(".gitattributes"), "* text eol=crlf filter=evil ident\n").unwrap();
    fs::write(path.join("lines"), "$Id$\none\ntwo\n").unwrap();
    let new = commit_all(&path, "new");
    git(&path, &["tag", "-a", "-m", "tag", "v1"]);
    git(&path, &["branch", "topic", "v0"]);
    (old, new)
}

struct Client {
    directory: TempDir,
    environment: GitEnvironment,
    secrets: Secrets,
}

impl Client {
    fn new() -> Self {
        let environment = GitEnvironment {
            path: PATH.into(),
            network: Vec::new(),
            ssh_agent: None,
            known_hosts: None,
            time_limit: Duration::from_secs(120),
        };
        Self { directory: tempfile::tempdir().unwrap(), environment, secrets: Secrets::default() }
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    fn fetch(&self, address: &str) -> Result<GitTree, String> {
        self.fetch_as(address, None, None).map_err(|error| {
            let hint = if let SourceError::Git(error) = &error { error.hint() } else { None };
            format!("{error}|{}", hint.unwrap_or_default())
        })
    }

    fn fetch_as(
        &self,
        address: &str,
        checksum: Option<&str>,
        keep: Option<bool>,
    ) -> Result<GitTree, SourceError> {
        let address = GitAddress::parse(address).unwrap().unwrap();
        let environment = &self.environment;
        let request = GitRequest { address: &address, checksum, keep_git_dir: keep, now: 5, environment };
        fetch(&request, self.directory.path(), &self.cache(), &self.secrets, &|| false)
    }
}

/// Paths with what is there, in short.
fn files(tree: &GitTree) -> BTreeMap<String, String> {
    let show = |change: &Change| {
        let entry = &change.entry;
        assert_eq!((entry.uid, entry.gid), (0, 0));
        let shown = match &entry.kind {
            EntryKind::File { size } => {
                let mut text = String::new();
                change.content.open().unwrap().read_to_string(&mut text).unwrap();
                assert_eq!(text.len() as u64, *size);
                format!("{:o} {text}", entry.mode)
            }
            EntryKind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
            EntryKind::Directory => format!("{:o}/", entry.mode),
            other => format!("{other:?}"),
        };
        (entry.path.as_bytes().escape_ascii().to_string(), shown)
    };
    Context::gathered(tree.changes.clone()).unwrap();
    tree.changes.iter().map(show).collect()
}

#[test]
fn references_and_files() {
    let mut server = Server::start();
    let (old, new) = sample(&server);
    let client = Client::new();
    let upper = new.to_uppercase();
    for (rest, want) in [
        ("r".to_owned(), &new),
        ("r#main".into(), &new),
        ("r#refs/heads/topic".into(), &old),
        ("r?branch=topic".into(), &old),
        ("r#v0".into(), &old),
        ("r#v1".into(), &new),
        ("r#refs/tags/v1".into(), &new),
        ("r#heads/topic".into(), &old),
        ("r#HEAD".into(), &new),
        (format!("r#{old}"), &old),
        (format!("r#{upper}"), &new),
        (format!("r#{}", &old[..8]), &old),
        (format!("r?ref=v1&checksum={}", &new[..9]), &new),
        (format!("r?branch=topic&checksum={new}&fetch-by-commit=1"), &new),
    ] {
        let tree = client.fetch(&server.url(&rest)).unwrap_or_else(|error| panic!("{rest}: {error}"));
        assert_eq!(tree.commit, **want, "{rest}");
        assert_eq!(tree.commit_time, TIME);
        assert_eq!(files(&tree)["a.txt"], if *want == new { "644 new" } else { "644 old" });
    }

    let tree = client.fetch(&server.url("r#v1")).unwrap();
    let want = [
        (".gitattributes", "644 * text eol=crlf filter=evil ident\n"),
        ("a.txt", "644 new"),
        ("d", "755/"),
        ("d/e", "755/"),
        ("d/e/run", "755 #!/bin/sh\n"),
        ("d/out", "-> ../../../etc/passwd"),
        ("empty", "644 "),
        ("lines", "644 $Id$\none\ntwo\n"),
        ("odd \\n\\xff -x", "644 odd"),
        ("same.txt", "644 new"),
    ];
    assert_eq!(files(&tree), want.map(|(path, shown)| (path.to_owned(), shown.to_owned())).into());
    assert!(tree.changes.iter().all(|change| change.entry.mtime == TIME));

    let tree = client.fetch(&server.url("r?subdir=/d/e&mtime=checkout")).unwrap();
    assert_eq!(files(&tree), [("run".to_owned(), "755 #!/bin/sh\n".to_owned())].into());
    assert!(tree.changes.iter().all(|change| change.entry.mtime == 5));

    for (rest, want) in [
        ("r#man", "does not contain ref \"man\" (did you mean \"main\"?)"),
        ("r?tag=v2", "does not contain ref \"refs/tags/v2\" (did you mean \"v0\"?)"),
        ("r#0123456", "does not contain ref \"0123456\""),
        ("r#0123456789012345678901234567890123456789", "does not contain ref"),
        ("r?branch=topic&checksum=dead", "expected checksum to match dead, got "),
        ("r#:nope", "the commit has no such directory"),
        ("r#:a.txt", "it is a file or a link"),
        ("r#:d/out", "it is a file or a link"),
        ("r#:d/out/x", "the commit has no such directory"),
        ("r?keep-git-dir#:d", "keep-git-dir cannot be used"),
        ("none", "failed to list the references of git://127.0.0.1"),
    ] {
        let error = client.fetch(&server.url(rest)).expect_err(rest);
        assert!(error.contains(want), "{rest}: {error}");
    }
    let url = server.url("r#v1");
    assert!(client.fetch_as(&url, Some(&new), None).is_ok());
    let tag = git(&server.path("r"), &["rev-parse", "v1"]);
    assert!(client.fetch_as(&url, Some(&tag[..10]), None).is_ok());
    assert!(matches!(
        client.fetch_as(&url, Some(&old), None),
        Err(SourceError::Git(GitError::Checksum { expected, found })) if expected == old && found == new
    ));
    let query = server.url("r?keep-git-dir=0");
    assert!(client.fetch_as(&query, None, Some(true)).unwrap_err().to_string().contains("inconsistent"));

    let all = server.url(&format!("r#{new}"));
    server.stop();
    assert_eq!(files(&client.fetch(&all).unwrap())["a.txt"], "644 new");
    let error = client.fetch(&server.url("r#main")).unwrap_err();
    assert!(error.contains("Connection refused"), "{error}");
    // A failing server does not cost what is there already.
    assert!(client.fetch(&all).is_ok());
}

#[test]
fn a_damaged_cache_is_fetched_again() {
    let mut server = Server::start();
    let (_, new) = sample(&server);
    let client = Client::new();
    let url = server.url(&format!("r#{new}"));
    client.fetch(&url).unwrap();
    let damage = |name: &str, what: &[u8]| {
        for repository in fs::read_dir(client.cache()).unwrap().map(|entry| entry.unwrap().path()) {
            let mut waiting = vec![repository];
            while let Some(path) = waiting.pop() {
                if path.is_dir() {
                    waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                } else if path.to_string_lossy().contains(name) {
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
                    fs::write(&path, what).unwrap();
                }
            }
        }
    };
    for (name, what) in
        [("/objects/", &b""[..]), ("/objects/", b"junk"), ("/HEAD", b"junk"), ("/refs/", b"junk")]
    {
        damage(name, what);
        let tree = client.fetch(&url).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(files(&tree)["a.txt"], "644 new", "{name}");
    }
    damage("/objects/", b"");
    server.stop();
    assert!(client.fetch(&url).is_err());
}

/// Puts a submodule into the index of a repository, whatever it is.
fn add_module(repository: &Path, path: &str, commit: &str) {
    git(repository, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
}

#[test]
fn submodules() {
    let server = Server::start();
    let leaf = server.repository("leaf");
    fs::write(leaf.join("leaf.txt"), "leaf").unwrap();
    let leaf_commit = commit_all(&leaf, "leaf");
    fs::write(leaf.join("leaf.txt"), "newer").unwrap();
    commit_all(&leaf, "newer");
    let middle = server.repository("middle");
    fs::write(middle.join(".gitmodules"), "[submodule \"x\"]\n\tpath = in/leaf\n\turl = ../leaf\n").unwrap();
    git(&middle, &["add", "-A"]);
    add_module(&middle, "in/leaf", &leaf_commit);
    git(&middle, &["commit", "-q", "-m", "middle"]);
    let middle_commit = git(&middle, &["rev-parse", "HEAD"]);
    let top = server.repository("top");
    let modules = format!(
        "[submodule \"m\"]\n\tpath = sub/middle\n\turl = ./../middle\n\
         [submodule \"l\"]\n\tpath = leaf\n\turl = {}\n\
         [submodule \"old\"]\n\tpath = gone\n\turl = https://nowhere.invalid/x\n",
        server.url("leaf")
    );
    fs::write(top.join(".gitmodules"), modules).unwrap();
    git(&top, &["add", "-A"]);
    add_module(&top, "sub/middle", &middle_commit);
    add_module(&top, "leaf", &leaf_commit);
    add_module(&top, "unknown", &leaf_commit);
    git(&top, &["commit", "-q", "-m", "top"]);

    let client = Client::new();
    let found = files(&client.fetch(&server.url("top")).unwrap());
    assert_eq!(found["sub/middle/in/leaf/leaf.txt"], "644 leaf");
    assert_eq!(found["leaf/leaf.txt"], "644 leaf");
    assert_eq!(found["unknown"], "755/");
    assert_eq!(found["sub/middle"], "755/");
    let found = files(&client.fetch(&server.url("top#:sub")).unwrap());
    assert_eq!(found["middle/in/leaf/leaf.txt"], "644 leaf");
    let found = files(&client.fetch(&server.url("top?submodules=false")).unwrap());
    assert_eq!(found.keys().collect::<Vec<_>>(), [".gitmodules", "leaf", "sub", "sub/middle", "unknown"]);
    let error = client.fetch(&server.url("top#:leaf")).unwrap_err();
    assert!(error.contains("it is a submodule"), "{error}");
}

#[test]
fn hostile_submodules() {
    let server = Server::start();
    let leaf = server.repository("leaf");
    let commit = commit_all(&leaf, "leaf");
    let outside = tempfile::tempdir().unwrap();
    let mark = outside.path().join("mark");
    let client = Client::new();
    for (number, (path, url)) in [
        ("x", format!("file://{}", leaf.display())),
        ("x", leaf.display().to_string()),
        ("x", format!("ext::touch {}", mark.display())),
        ("x", format!("-u{}", mark.display())),
        ("x", format!("--upload-pack=touch {}", mark.display())),
        ("../x", server.url("leaf")),
        ("x", "\"https://h/a\\rb\"".to_owned()),
        ("\"x\\r\"", server.url("leaf")),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("evil{number}");
        let evil = server.repository(&name);
        fs::write(evil.join(".gitmodules"), format!("[submodule \"x\"]\n\tpath = {path}\n\turl = {url}\n"))
            .unwrap();
        git(&evil, &["add", "-A"]);
        add_module(&evil, "x", &commit);
        git(&evil, &["commit", "-q", "-m", "evil"]);
        let error = client.fetch(&server.url(&name)).expect_err(&url);
        let refused = error.contains("refused") || error.contains("fsck") || error.contains("gitmodules");
        assert!(refused, "{path} {url}: {error}");
        assert!(!error.contains('\r'), "{error}");
        assert!(!mark.exists(), "{url}");
    }
}

#[test]
fn hostile_trees() {
    let server = Server::start();
    let path = server.repository("r");
    let blob = git_with(&path, &["hash-object", "-w", "--stdin"], b"evil");
    let tree_of = |text: String| git_with(&path, &["mktree", "--missing"], text.as_bytes());
    let inner = tree_of(format!("100644 blob {blob}\tconfig\n"));
    let client = Client::new();
    for (number, (text, want)) in [
        (format!("040000 tree {inner}\t.git\n"), "hasDotgit"),
        (format!("040000 tree {inner}\t.GIT\n"), "hasDotgit"),
        (format!("100644 blob {blob}\t..\n"), "hasDotdot"),
        (format!("120000 blob {blob}\tlink\n040000 tree {inner}\tlink\n"), "duplicateEntries"),
        (
            format!("120000 blob {blob}\t.gitmodules\n160000 commit {}\tx\n", "1".repeat(40)),
            "gitmodulesSymlink",
        ),
        (format!("100644 blob {blob}\t{}\n", "n".repeat(300)), "255 bytes"),
    ]
    .into_iter()
    .enumerate()
    {
        let tree = tree_of(text.clone());
        let commit = git(&path, &["commit-tree", "-m", "evil", &tree]);
        git(&path, &["update-ref", &format!("refs/heads/evil{number}"), &commit]);
        let error = client.fetch(&server.url(&format!("r#evil{number}"))).expect_err(&text);
        assert!(error.contains(want), "{text}: {error}");
    }
}

/// Writes entries to disk, as a build that copies them would have them.
fn write(tree: &GitTree, directory: &Path) {
    for change in &tree.changes {
        let path = directory.join(change.entry.path.as_os_path());
        match &change.entry.kind {
            EntryKind::Directory => fs::create_dir_all(&path).unwrap(),
            EntryKind::Symlink { target } => symlink(std::ffi::OsStr::from_bytes(target), &path).unwrap(),
            _ => {
                std::io::copy(&mut change.content.open().unwrap(), &mut fs::File::create(&path).unwrap())
                    .unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(change.entry.mode)).unwrap();
            }
        }
    }
}

#[test]
fn git_directories() {
    let server = Server::start();
    let (old, new) = sample(&server);
    // With attributes that ask for other bytes on disk, nothing would look clean.
    let path = server.path("r");
    git(&path, &["rm", "-q", ".gitattributes"]);
    add_module(&path, "module", &old);
    git(&path, &["commit", "-q", "-m", "without attributes"]);
    git(&path, &["tag", "-a", "-m", "tag", "v2"]);
    let newest = git(&path, &["rev-parse", "HEAD"]);
    let client = Client::new();
    for (rest, want, branch, tag) in [
        ("r".to_owned(), &newest, "main", ""),
        ("r#v2".to_owned(), &newest, "HEAD", "v2"),
        ("r#topic".to_owned(), &old, "topic", ""),
        (format!("r#{newest}"), &newest, "HEAD", ""),
    ] {
        let url = server.url(&rest);
        let tree = client.fetch_as(&url, None, Some(true)).unwrap();
        let again = client.fetch_as(&url, None, Some(true)).unwrap();
        let bytes = |tree: &GitTree| -> Vec<_> {
            let read = |change: &Change| {
                let mut bytes = Vec::new();
                change.content.open().unwrap().read_to_end(&mut bytes).unwrap();
                (change.entry.clone(), bytes)
            };
            tree.changes.iter().map(read).collect()
        };
        assert!(bytes(&tree) == bytes(&again), "{rest}: the same bytes each time");
        let out = tempfile::tempdir().unwrap();
        write(&tree, out.path());
        assert_eq!(git(out.path(), &["log", "--format=%H"]), **want, "{rest}");
        assert_eq!(git(out.path(), &["status", "--porcelain"]), "", "{rest}");
        assert_eq!(git(out.path(), &["rev-parse", "--abbrev-ref", "HEAD"]), branch, "{rest}");
        assert_eq!(git(out.path(), &["fsck", "--strict"]), "", "{rest}");
        assert_eq!(git(out.path(), &["remote", "get-url", "origin"]), server.url("r"));
        if !tag.is_empty() {
            assert_eq!(git(out.path(), &["describe"]), tag);
        }
        let config = fs::read_to_string(out.path().join(".git/config")).unwrap();
        assert!(!config.contains(&client.directory.path().display().to_string()), "{config}");
        for gone in [".git/hooks", ".git/logs", ".git/FETCH_HEAD"] {
            assert!(!out.path().join(gone).exists(), "{gone}");
        }
    }
    assert_ne!(new, newest);
}

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

#[test]
fn endless_submodules() {
    let server = Server::start();
    let leaf = server.repository("n0");
    let mut commit = commit_all(&leaf, "leaf");
    for depth in 1..=12 {
        let path = server.repository(&format!("n{depth}"));
        let modules = format!("[submodule \"x\"]\n\tpath = x\n\turl = ../n{}\n", depth - 1);
        fs::write(path.join(".gitmodules"), modules).unwrap();
        git(&path, &["add", "-A"]);
        add_module(&path, "x", &commit);
        git(&path, &["commit", "-q", "-m", "one more"]);
        commit = git(&path, &["rev-parse", "HEAD"]);
    }
    let client = Client::new();
    assert!(client.fetch(&server.url("n10")).is_ok());
    let error = client.fetch(&server.url("n12")).unwrap_err();
    assert!(error.contains("nested more than 10 deep"), "{error}");
}
