use proptest::prelude::*;

use super::*;

fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "dir" => "/srv/x",
        "type" => "tmpfs",
        "n" => "7",
        "list" => "a,target=/evil",
        "empty" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

fn parse(raw: &str) -> Result<Mount, MountError> {
    Mount::parse(raw, &mut |value| expand::expand(value, '\\', &lookup).map(|expanded| expanded.text))
}

fn own(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn binds() {
    let bind = |target: &str, source: &str, from: &str, read_only| Mount::Bind {
        target: own(target).filter(|target| !target.is_empty()),
        source: source.to_owned(),
        from: own(from).filter(|from| !from.is_empty()),
        read_only,
    };
    for (raw, want) in [
        ("target=/a", bind("/a", "/", "", true)),
        ("type=bind", bind("", "/", "", true)),
        ("type=BIND,DST=a,Src=b/c", bind("a", "b/c", "", true)),
        ("destination=/a,source=b,from=Base", bind("/a", "b", "Base", true)),
        ("target=/a,rw", bind("/a", "/", "", false)),
        ("target=/a,readwrite=true", bind("/a", "/", "", false)),
        ("target=/a,rw=0", bind("/a", "/", "", true)),
        ("target=/a,ro=F", bind("/a", "/", "", false)),
        ("target=/a,readonly", bind("/a", "/", "", true)),
        ("target=/a,type=bind,from=", bind("/a", "/", "", true)),
        ("\"target=/a,b\",\"source=x\"\"\"\"y\"", bind("/a,b", "xy", "", true)),
        ("target=$dir/y,source=${nope:-s}", bind("/srv/x/y", "s", "", true)),
        ("target='/a b',source=\\$x", bind("/a b", "$x", "", true)),
        // A value is never read as fields.
        ("target=/a/$list", bind("/a/a,target=/evil", "/", "", true)),
        ("target=$empty", bind("", "/", "", true)),
        ("target=/a=b", bind("/a=b", "/", "", true)),
    ] {
        assert_eq!(parse(raw), Ok(want), "{raw}");
    }
}

#[test]
fn caches() {
    let plain = || Mount::Cache {
        target: own("/c"),
        id: None,
        sharing: Sharing::Shared,
        source: None,
        from: None,
        mode: None,
        uid: None,
        gid: None,
        read_only: false,
    };
    assert_eq!(parse("type=cache,target=/c"), Ok(plain()));
    assert_eq!(parse("target=/c,type=cache,id=,source=,rw"), Ok(plain()));
    let full = Mount::Cache {
        target: own("/c"),
        id: own("x"),
        sharing: Sharing::Locked,
        source: own("s"),
        from: own("f"),
        mode: Some(0o1777),
        uid: Some(7),
        gid: Some(0),
        read_only: true,
    };
    let raw = "mode=1777,uid=$n,gid=0,sharing=Locked,id=x,from=f,src=s,ro,dst=/c,type=cache";
    assert_eq!(parse(raw), Ok(full));
    for (name, want) in SHARINGS {
        let found = parse(&format!("type=cache,target=/c,sharing={name}"));
        assert!(matches!(found, Ok(Mount::Cache { sharing, .. }) if sharing == want), "{name}");
        assert_eq!(want.name(), name);
    }
}

#[test]
fn file_systems_in_memory() {
    for (raw, target, size) in [
        ("type=tmpfs,target=/t", own("/t"), None),
        ("type=$type,target=/t,size=64k", own("/t"), Some(65536)),
        ("size=${n}m,type=tmpfs", None, Some(7 << 20)),
        ("type=tmpfs,target=/t,size=0", own("/t"), None),
    ] {
        assert_eq!(parse(raw), Ok(Mount::Tmpfs { target, size }), "{raw}");
    }
}

#[test]
fn secrets() {
    let secret = |target: &str, id: &str, env: &str| Mount::Secret {
        target: own(target).filter(|target| !target.is_empty()),
        id: id.to_owned(),
        env: own(env).filter(|env| !env.is_empty()),
        required: false,
        mode: 0o400,
        uid: 0,
        gid: 0,
    };
    for (raw, want) in [
        ("type=secret,id=a", secret("/run/secrets/a", "a", "")),
        ("type=secret,id=p/q/", secret("/run/secrets/q", "p/q/", "")),
        ("type=secret,src=a", secret("/run/secrets/a", "a", "")),
        ("type=secret,target=/etc/key", secret("/etc/key", "key", "")),
        ("type=secret,target=key/", secret("key/", "key", "")),
        ("type=secret,id=a,target=/k", secret("/k", "a", "")),
        ("type=secret,id=a,env", secret("", "a", "a")),
        ("type=secret,id=a,env=A", secret("", "a", "A")),
        ("env=A,id=a,target=/k,type=secret", secret("/k", "a", "A")),
        ("type=secret,target=/x/k,env", secret("/x/k", "k", "k")),
        ("type=secret,id=..,env=A", secret("", "..", "A")),
    ] {
        assert_eq!(parse(raw), Ok(want), "{raw}");
    }
    let full = Mount::Secret {
        target: own("/run/secrets/a"),
        id: "a".to_owned(),
        env: None,
        required: true,
        mode: 0o440,
        uid: 1,
        gid: 2,
    };
    assert_eq!(parse("required,mode=0440,uid=1,gid=2,id=a,type=secret"), Ok(full.clone()));
    assert_eq!(parse("required=true,mode=440,uid=1,gid=2,id=a,type=secret"), Ok(full));
}

#[test]
fn agents() {
    let ssh = |target, id: &str, required| Mount::Ssh {
        target,
        id: id.to_owned(),
        required,
        mode: 0o600,
        uid: 0,
        gid: 0,
    };
    for (raw, want) in [
        ("type=ssh", ssh(None, "default", false)),
        ("type=ssh,id=github,required", ssh(None, "github", true)),
        ("type=ssh,required=false,target=/s", ssh(own("/s"), "default", false)),
    ] {
        assert_eq!(parse(raw), Ok(want), "{raw}");
    }
}

/// What is wrong in both modes: value, message with suggestion, faulty word.
const FAULTS: &[(&str, &str, Option<&str>)] = &[
    ("tgt=/x", "unexpected key 'tgt' in 'tgt=/x' (did you mean dst?)", Some("tgt")),
    ("type=bind,Taget=/x", "unexpected key 'taget' in 'Taget=/x' (did you mean target?)", Some("Taget")),
    (
        "type=bind, target=/x",
        "unexpected key ' target' in ' target=/x' (did you mean target?)",
        Some(" target"),
    ),
    ("xyzzy=1", "unexpected key 'xyzzy' in 'xyzzy=1'", Some("xyzzy")),
    ("=1", "unexpected key '' in '=1'", Some("")),
    ("x", "invalid field 'x' must be a key=value pair", Some("x")),
    ("type=bind,", "invalid field '' must be a key=value pair", Some("")),
    ("target", "invalid field 'target' must be a key=value pair", Some("target")),
    (
        "type=ssh,requird",
        "invalid field 'requird' must be a key=value pair (did you mean required?)",
        Some("requird"),
    ),
    ("target=/a,dst=/b", "duplicate key 'dst'", Some("dst=/b")),
    ("ro,target=/a,rw", "duplicate key 'rw'", Some("rw")),
    ("target=/a,target=/a", "duplicate key 'target'", Some("target=/a")),
    ("type=foo", "unsupported mount type \"foo\"", Some("type=foo")),
    ("type=cahce,target=/x", "unsupported mount type \"cahce\" (did you mean cache?)", Some("type=cahce")),
    ("type=", "unsupported mount type \"\"", Some("type=")),
    ("type=cache,target=/x,sharing=x", "unsupported sharing value \"x\"", Some("sharing=x")),
    (
        "type=cache,target=/x,sharing=lock",
        "unsupported sharing value \"lock\" (did you mean locked?)",
        Some("sharing=lock"),
    ),
    (
        "target=/x,size=1m",
        "unexpected key 'size' for mount type 'bind' (did you mean type=tmpfs?)",
        Some("size=1m"),
    ),
    (
        "required,target=/x",
        "unexpected key 'required' for mount type 'bind' (did you mean type=secret?)",
        Some("required"),
    ),
    (
        "type=cache,required,target=/x",
        "unexpected key 'required' for mount type 'cache' (did you mean type=secret?)",
        Some("required"),
    ),
    ("id=x,target=/x", "unexpected key 'id' for mount type 'bind' (did you mean type=cache?)", Some("id=x")),
    (
        "type=tmpfs,id=x",
        "unexpected key 'id' for mount type 'tmpfs' (did you mean type=cache?)",
        Some("id=x"),
    ),
    (
        "type=tmpfs,source=x",
        "unexpected key 'source' for mount type 'tmpfs' (did you mean type=bind?)",
        Some("source=x"),
    ),
    (
        "type=tmpfs,from=x",
        "unexpected key 'from' for mount type 'tmpfs' (did you mean type=bind?)",
        Some("from=x"),
    ),
    ("type=tmpfs,ro", "unexpected key 'ro' for mount type 'tmpfs' (did you mean type=bind?)", Some("ro")),
    (
        "type=cache,target=/x,env=A",
        "unexpected key 'env' for mount type 'cache' (did you mean type=secret?)",
        Some("env=A"),
    ),
    (
        "type=ssh,env=A",
        "unexpected key 'env' for mount type 'ssh' (did you mean type=secret?)",
        Some("env=A"),
    ),
    (
        "type=ssh,from=x",
        "unexpected key 'from' for mount type 'ssh' (did you mean type=bind?)",
        Some("from=x"),
    ),
    (
        "type=secret,id=a,size=1",
        "unexpected key 'size' for mount type 'secret' (did you mean type=tmpfs?)",
        Some("size=1"),
    ),
    (
        "type=secret,id=a,ro",
        "unexpected key 'ro' for mount type 'secret' (did you mean type=bind?)",
        Some("ro"),
    ),
    ("target=/x,mode=755", "mode not allowed for \"bind\" type mounts", Some("mode=755")),
    ("uid=1,target=/x", "uid not allowed for \"bind\" type mounts", Some("uid=1")),
    ("type=tmpfs,gid=1", "gid not allowed for \"tmpfs\" type mounts", Some("gid=1")),
    ("target=/x,sharing=shared", "invalid cache sharing set for bind mount", Some("sharing=shared")),
    ("type=ssh,sharing=shared", "invalid cache sharing set for ssh mount", Some("sharing=shared")),
    ("type=secret,id=a,from=b", "secret mount should not have a from", Some("from=b")),
    ("type=secret,id=a,sharing=shared", "secret mount should not define sharing", Some("sharing=shared")),
    ("type=secret", "invalid secret mount. one of source, target required", None),
    ("type=secret,id=,env=A", "invalid secret mount. one of source, target required", None),
    ("type=secret,id=a,src=b", "both source and id can't be set", Some("src=b")),
    ("type=secret,id=a/..", "invalid value for id: a/..", Some("id=a/..")),
    ("type=secret,src=/", "invalid value for src: /", Some("src=/")),
    ("type=secret,target=a/..", "invalid value for target: a/..", Some("target=a/..")),
    ("type=secret,id=a,env=", "invalid value for env: ", Some("env=")),
    ("type=secret,id=a,env=A=B", "invalid value for env: A=B", Some("env=A=B")),
    ("type=secret,id=a=b,env", "invalid value for env: a=b", Some("env")),
    ("type=ssh,source=x", "ssh does not support source", Some("source=x")),
    ("target=/x,ro=x", "invalid value for ro: x", Some("ro=x")),
    ("target=/x,readwrite=yes", "invalid value for readwrite: yes", Some("readwrite=yes")),
    ("type=secret,id=a,required=", "invalid value for required: ", Some("required=")),
    ("type=tmpfs,size=big", "invalid value for size: big", Some("size=big")),
    ("type=cache,target=/x,mode=9", "invalid value 9 for mode", Some("mode=9")),
    ("type=cache,target=/x,uid=root", "invalid value root for uid", Some("uid=root")),
    ("type=ssh,gid=-1", "invalid value -1 for gid", Some("gid=-1")),
    ("target=/", "invalid mount target \"/\"", Some("target=/")),
    ("type=cache,target=//a/..", "invalid mount target \"//a/..\"", Some("target=//a/..")),
    (
        "from=$X,target=/x",
        "'from' doesn't support variable expansion, define alias stage instead",
        Some("from=$X"),
    ),
    (
        "target='/x",
        "failed to process \"'/x\": unexpected end of statement while looking for matching single-quote",
        Some("target='/x"),
    ),
    (
        "a\"b",
        "the value is not a list of key=value pairs between commas: a quote stands inside a field that does not begin with one",
        None,
    ),
];

#[test]
fn faults() {
    for (raw, want, word) in FAULTS {
        for error in [parse(raw).unwrap_err(), Mount::check(raw, '\\').unwrap_err()] {
            assert_eq!((error.to_string().as_str(), error.word()), (*want, *word), "{raw}");
        }
    }
    let long = format!("x{}=1", "y".repeat(10_000));
    assert!(parse(&long).unwrap_err().to_string().chars().count() < 500);
}

#[test]
fn what_depends_on_variables_is_judged_later() {
    for raw in [
        "target=$x",
        "type=$t,size=1m,required",
        "type=cache,mode=$m,uid=${u},gid=1$g,sharing=$s,target=$empty",
        "type=tmpfs,size=${n}m",
        "type=secret,id=$i",
        "type=secret,id=$i,env",
        "type=secret,target=$i,env=${e:-a=b},required=$r",
        "ro=$r,target='$open",
    ] {
        assert_eq!(Mount::check(raw, '\\'), Ok(()), "{raw}");
    }
    for (raw, want) in [
        ("type=$t,tgt=/x", "unexpected key 'tgt' in 'tgt=/x' (did you mean dst?)"),
        ("type=$t,mode=9", "invalid value 9 for mode"),
        ("type=$t,target=/", "invalid mount target \"/\""),
        (
            "type=tmpfs,target=$x,id=$y",
            "unexpected key 'id' for mount type 'tmpfs' (did you mean type=cache?)",
        ),
    ] {
        assert_eq!(Mount::check(raw, '\\').unwrap_err().to_string(), want, "{raw}");
    }
    // What the variables hold is judged when they are known.
    for (raw, want) in [
        ("type=$n,target=/x", "unsupported mount type \"7\""),
        ("type=cache,target=/x,mode=9$n", "invalid value 97 for mode"),
        ("target=/$empty", "invalid mount target \"/\""),
        ("type=secret,id=$empty", "invalid secret mount. one of source, target required"),
        ("target=${nope:?no}", "failed to process \"${nope:?no}\": nope: no"),
    ] {
        assert_eq!(parse(raw).unwrap_err().to_string(), want, "{raw}");
    }
}

#[test]
fn what_a_mount_has_in_common_with_others() {
    for (raw, kind, target, from) in [
        ("target=/a,from=x", MountType::Bind, Some("/a"), Some("x")),
        ("type=cache,target=/a", MountType::Cache, Some("/a"), None),
        ("type=tmpfs", MountType::Tmpfs, None, None),
        ("type=secret,id=a", MountType::Secret, Some("/run/secrets/a"), None),
        ("type=ssh", MountType::Ssh, None, None),
    ] {
        let mount = parse(raw).unwrap();
        assert_eq!((mount.kind(), mount.target(), mount.from()), (kind, target, from), "{raw}");
        assert!(raw.contains(kind.name()) || kind == MountType::Bind);
    }
}

fn fields() -> impl Strategy<Value = String> {
    const FIELD: &str = "(type|target|src|from|id|ro|rw|sharing|required|mode|uid|env|size|x)\
        (|=|=bind|=cache|=secret|=ssh|=tmpfs|=/a|=7|=true|=\\$n|='|=locked)";
    proptest::collection::vec(FIELD, 0..6).prop_map(|fields| fields.join(","))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_value(raw in r#"[a-z=,"/$ \\'{}0-9]{0,40}|.{0,20}"#) {
        let _ = (parse(&raw), Mount::check(&raw, '\\'));
    }

    #[test]
    fn what_the_check_refuses_is_never_a_mount(raw in fields()) {
        if let Ok(mount) = parse(&raw) {
            prop_assert_eq!(Mount::check(&raw, '\\'), Ok(()));
            prop_assert!(mount.target().is_none_or(|target| !values::is_root(target)));
        }
        if !raw.contains('$') {
            prop_assert_eq!(parse(&raw).map(|_| ()), Mount::check(&raw, '\\'));
        }
    }

    #[test]
    fn the_order_of_fields_means_nothing(raw in fields()) {
        let mut reversed: Vec<&str> = raw.split(',').collect();
        reversed.reverse();
        if let Ok(mount) = parse(&raw) {
            prop_assert_eq!(parse(&reversed.join(",")), Ok(mount));
        }
    }
}
