//! Addresses, honest and hostile.

use super::*;

const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

/// What an address means, in short: url|ref|checksum|subdir and further options.
fn short(address: &GitAddress) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let mut text = format!(
        "{}|{}|{}|{}",
        address.remote,
        part(&address.reference),
        part(&address.checksum),
        part(&address.subdir)
    );
    if let Some(submodules) = address.submodules {
        text += &format!("|submodules={submodules}");
    }
    if let Some(keep) = address.keep_git_dir {
        text += &format!("|keep={keep}");
    }
    if address.mtime == GitTime::Checkout {
        text += "|checkout";
    }
    if address.fetch_by_commit {
        text += "|by-commit";
    }
    text
}

#[test]
fn addresses() {
    for (text, want) in [
        ("https://example.com/foo.git", "https://example.com/foo.git|||"),
        ("http://example.com:8080/foo.git", "http://example.com:8080/foo.git|||"),
        ("HTTPS://Example.com/Foo.git", "https://example.com/Foo.git|||"),
        ("https://example.com/foo.git#deadbeef", "https://example.com/foo.git|deadbeef||"),
        ("https://example.com/foo.git#release/1.2", "https://example.com/foo.git|release/1.2||"),
        ("https://example.com/foo.git#v1%2B2", "https://example.com/foo.git|v1+2||"),
        (
            "https://github.com/foo/bar.git#baz/qux:quux/quuz",
            "https://github.com/foo/bar.git|baz/qux||quux/quuz",
        ),
        ("https://github.com/docker/docker.git#:myfolder", "https://github.com/docker/docker.git|||myfolder"),
        ("https://h/a.git#:", "https://h/a.git|||"),
        ("https://h/a.git#", "https://h/a.git|||"),
        ("https://h/a.git#:/./a//b/", "https://h/a.git|||a/b"),
        ("https://h/a.git?ref=v1.0.0&subdir=/subdir", "https://h/a.git|v1.0.0||subdir"),
        ("https://h/a.git?branch=main", "https://h/a.git|refs/heads/main||"),
        ("https://h/a.git?tag=refs/tags/v1", "https://h/a.git|refs/tags/v1||"),
        ("https://h/a.git?ref=refs/tags/v1&tag=v1", "https://h/a.git|refs/tags/v1||"),
        ("https://h/a.git?ref=x#x:d", "https://h/a.git|x||d"),
        ("https://h/a.git?checksum=DEADbeef", "https://h/a.git|deadbeef|deadbeef|"),
        ("https://h/a.git?branch=b&commit=deadbeef", "https://h/a.git|refs/heads/b|deadbeef|"),
        ("https://h/a.git?submodules=false&keep-git-dir", "https://h/a.git||||submodules=false|keep=true"),
        ("https://h/a.git?submodules&keep-git-dir=0", "https://h/a.git||||submodules=true|keep=false"),
        ("https://h/a.git?mtime=checkout", "https://h/a.git||||checkout"),
        ("https://h/a.git?mtime=commit&", "https://h/a.git|||"),
        ("https://user:p%40ss@h/a.git#x", "https://h/a.git|x||"),
        ("https://token@h/a.git", "https://h/a.git|||"),
        ("git://example.com/foo", "git://example.com/foo|||"),
        ("git://[::1]:9418/foo", "git://[::1]:9418/foo|||"),
        ("ssh://git@example.com:2222/foo", "ssh://git@example.com:2222/foo|||"),
        ("git@github.com:moby/buildkit", "git@github.com:moby/buildkit|||"),
        ("git@github.com:moby/buildkit.git#v1:d", "git@github.com:moby/buildkit.git|v1||d"),
        ("git@h:a?tag=v1", "git@h:a|refs/tags/v1||"),
    ] {
        let address = GitAddress::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let address = address.unwrap_or_else(|| panic!("{text} is a git address"));
        assert_eq!(short(&address), want, "{text}");
        assert!(!format!("{address} {address:?}").contains("p@ss"), "{text}");
    }
}

#[test]
fn other_sources() {
    for text in [
        "https://example.com/",
        "https://example.com/foo",
        "https://example.com/foo.git/",
        "https://example.com/foo.git.bar",
        "http://github.com/docker/docker.git:#branch",
        "https://example.com/x?y=a.git",
        "https://example.com/x#a.git",
        "github.com/moby/buildkit",
        "custom.xyz/moby/buildkit.git",
        "./.git",
        ".git",
        "../a@b:c",
        "dir/a@b:c",
        "a file",
        "Foo::Bar.3pm",
        "é@h:x",
        "",
    ] {
        assert_eq!(GitAddress::parse(text), Ok(None), "{text}");
    }
}

#[test]
fn contexts_without_scheme() {
    for (text, want) in [
        ("github.com/a/b", Some("https://github.com/a/b.git|||")),
        ("github.com/a/b.git#x:y", Some("https://github.com/a/b.git|x||y")),
        ("github.com/a/b/?tag=v", Some("https://github.com/a/b.git|refs/tags/v||")),
        ("example.com/a/b.git", None),
        ("https://h/a.git", Some("https://h/a.git|||")),
    ] {
        assert_eq!(GitAddress::parse_context(text).unwrap().as_ref().map(short).as_deref(), want, "{text}");
    }
}

#[test]
fn faults() {
    let long = format!("https://h/{}.git", "a".repeat(5000));
    for (text, want) in [
        ("https://h/a.git?x=1", "unexpected query \"x\""),
        ("https://h/a.git?token=hunter2", "unexpected query \"token\""),
        ("https://h/a.git?submodule=1", "unexpected query \"submodule\" (did you mean \"submodules\"?)"),
        ("https://h/a.git?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
        ("https://h/a.git?ref=v1&tag=v1", "ref conflicts: \"v1\" vs \"refs/tags/v1\""),
        ("https://h/a.git?subdir=a#:b", "subdir conflicts: \"b\" vs \"a\""),
        ("https://h/a.git?tag=a&branch=a", "branch conflicts with tag"),
        ("https://h/a.git?commit=aaaa&checksum=bbbb", "checksum conflicts: \"aaaa\" vs \"bbbb\""),
        ("https://h/a.git?ref=", "query \"ref\" has no value"),
        ("https://h/a.git?ref=a&ref=b", "query \"ref\" has multiple values"),
        ("https://h/a.git?submodules=maybe", "invalid submodules value: \"maybe\""),
        ("https://h/a.git?keep-git-dir=2", "invalid keep-git-dir value: \"2\""),
        ("https://h/a.git?mtime=now", "invalid mtime value: \"now\""),
        ("https://h/a.git?checksum=xyz", "invalid checksum value: \"xyz\""),
        ("https://h/a.git?checksum=abcd&fetch-by-commit=1", "fetch-by-commit needs"),
        ("https://h/a.git#--upload-pack=x", "must not begin with `-`"),
        ("https://h/a.git#%2d-upload-pack=x", "must not begin with `-`"),
        ("https://h/a.git?ref=-x", "must not begin with `-`"),
        ("https://h/a.git#+main", "must not begin with `+`"),
        ("https://h/a.git#a*", "blanks or any of"),
        ("https://h/a.git#a..b", "`..`"),
        ("https://h/a.git#HEAD@{1}", "`@{`"),
        ("https://h/a.git#a//b", "a part that is empty"),
        ("https://h/a.git#:../x", "subdir of the git address is not usable: it must not hold `..`"),
        ("https://h/a.git#:a/%2e%2e/b", "must not hold `..`"),
        ("https://h/a.git#:.git/hooks", "`.git` is no part"),
        ("https://h/a.git#a\nb", "control characters"),
        ("https://h/a.git#a\rb", "control characters"),
        ("https://h/a.git#a\0b", "control characters"),
        ("https://h/a%0ab.git", "control characters"),
        ("git://h/a%00b", "control characters"),
        ("https://h/a.git#a\u{202e}b", "control characters"),
        ("https://h/a.git#%zz", "URL escape"),
        ("file:///srv/a.git", "git transport \"file\" is not allowed"),
        ("FILE:///srv/a.git", "git transport \"file\" is not allowed"),
        ("ext::sh -c touch% /tmp/x", "git transport \"ext\" is not allowed"),
        ("ssh://-oProxyCommand=x/a", "host of the git address is not usable: it must not begin with `-`"),
        ("ssh://-x@h/a", "user of the git address is not usable: it must not begin with `-`"),
        ("ssh://u:pw@h/a", "use an agent"),
        ("-x@h:a", "user of the git address is not usable"),
        ("git@-h:a", "host of the git address is not usable"),
        ("git@h:-a", "path of the git address is not usable"),
        ("git@h:", "path of the git address is not usable: it is missing"),
        ("git://u@h/a", "knows no users"),
        ("git://h", "path of the git address is not usable: it is missing"),
        ("https:///a.git", "host of the git address is not usable: it is missing"),
        ("https://h:99999/a.git", "port of the git address"),
        ("https://h$(x)/a.git", "host of the git address"),
        ("https://[::1/a.git", "host of the git address"),
        (&long, "longer than 4096"),
    ] {
        let error = GitAddress::parse(text).expect_err(text).to_string();
        assert!(error.contains(want), "{text:?}: {error}");
        assert!(!error.contains("pw") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn whole_commits_need_no_question() {
    for (text, whole) in [
        (format!("https://h/a.git#{HASH}"), true),
        (format!("https://h/a.git#{}", HASH.to_uppercase()), true),
        (format!("https://h/a.git?checksum={HASH}"), true),
        (format!("https://h/a.git?branch=x&checksum={HASH}"), false),
        (format!("https://h/a.git?branch=x&checksum={HASH}&fetch-by-commit=true"), true),
        ("https://h/a.git#0123456".to_owned(), false),
        ("https://h/a.git".to_owned(), false),
    ] {
        let address = GitAddress::parse(&text).unwrap().unwrap();
        assert_eq!(address.commit(), whole.then(|| HASH.to_owned()), "{text}");
    }
}

#[test]
fn userinfo_is_hidden_in_any_text() {
    for (text, want) in [
        ("ADD https://u:p@h/a.git /x", "ADD https://h/a.git /x"),
        ("https://t@h a@b ssh://git@h/x", "https://h a@b ssh://h/x"),
        ("https://h/a@b", "https://h/a@b"),
        ("https://a:p@ss@h/x", "https://h/x"),
        ("none", "none"),
    ] {
        assert_eq!(without_userinfo(text), want);
    }
}
