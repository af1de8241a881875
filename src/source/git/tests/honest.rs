//! What honest repositories give.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::super::{GitError, GitTree};
use super::{Client, Server, TIME, add_module, commit_all, files, git, sample};
use crate::layer::{Change, EntryKind};
use crate::source::SourceError;

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

#[test]
fn builds_share_a_cache() {
    let server = Server::start();
    let (_, new) = sample(&server);
    let client = Client::new();
    let url = server.url("r");
    std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(|| client.fetch(&url).unwrap().commit)).collect();
        for build in builds {
            assert_eq!(build.join().unwrap(), new);
        }
    });
}
