//! What hostile repositories try.

use std::fs;

use super::{Client, Server, add_module, commit_all, git, git_with};

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
