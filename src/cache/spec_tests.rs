use super::*;

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

#[test]
fn reads_what_is_imported() {
    let digest = Digest::of(b"");
    let local = |image| CacheFrom::Local { directory: "c".into(), image };
    for (text, want) in [
        ("r.io/a:b", CacheFrom::Registry(reference("r.io/a:b"))),
        ("a", CacheFrom::Registry(reference("docker.io/library/a:latest"))),
        ("type=registry,ref=r.io/a", CacheFrom::Registry(reference("r.io/a:latest"))),
        ("ref=localhost:5000/a:b,Type=registry", CacheFrom::Registry(reference("localhost:5000/a:b"))),
        ("type=local,src=c", local(None)),
        ("type=local,src=c,tag=x", local(Some(LocalImage::Tag("x".to_owned())))),
        (&format!("type=local,src=c,digest={digest}"), local(Some(LocalImage::Digest(digest)))),
        ("type=local,\"src=a,b\"", CacheFrom::Local { directory: "a,b".into(), image: None }),
    ] {
        assert_eq!(CacheFrom::parse(text), Ok(want), "{text}");
    }
}

#[test]
fn reads_what_is_exported() {
    use CacheMode::{Max, Min};
    let registry = || CacheTarget::Registry(reference("r.io/a:b"));
    for (text, target, mode, ignore_error) in [
        ("r.io/a:b", registry(), Min, true),
        ("type=registry,ref=r.io/a:b", registry(), Min, true),
        ("type=registry,ref=r.io/a:b,mode=max,ignore-error=false", registry(), Max, false),
        ("type=registry,ref=r.io/a:b,mode=min,ignore-error=true", registry(), Min, true),
        ("type=registry,ref=r.io/a:b,image-manifest=true,oci-mediatypes=1", registry(), Min, true),
        ("type=local,dest=c,mode=max", CacheTarget::Local("c".into()), Max, true),
        ("type=inline", CacheTarget::Inline, Min, true),
        ("type=inline,mode=min", CacheTarget::Inline, Min, true),
    ] {
        assert_eq!(CacheTo::parse(text), Ok(CacheTo { target, mode, ignore_error }), "{text}");
    }
}

#[test]
fn nothing_is_ignored() {
    let digest = Digest::of(b"");
    let long = "t".repeat(64);
    for (from, text, want) in [
        (true, "type=gha", "the cache type `gha` is not supported: the types are registry and local"),
        (true, "type=s3,region=x", "the cache type `s3` is not supported: the types are registry and local"),
        (
            true,
            "type=inline,ref=x",
            "the cache type `inline` is not supported: inline records are found by type=registry,ref=IMAGE",
        ),
        (true, "ref=x", "type= is missing: the types are registry and local"),
        (true, "type=registry", "the cache type registry needs ref=REFERENCE"),
        (true, "type=local,src=", "the cache type local needs src=DIR"),
        (
            true,
            "type=local,src=x,digest=1",
            "`digest=`: `1` is not a digest of the form sha256:<64 lower-case hex digits>",
        ),
        (true, "type=registry,ref=x,mode=max", "the cache type registry has no option `mode`: it has ref"),
        (true, "type=registry,ref", "`ref` is not of the form key=value"),
        (true, "type=registry,ref=a,ref=b", "`ref` is given more than once"),
        (true, "inline", "type= is missing: the types are registry and local"),
        (false, "gha", "type= is missing: the types are registry, local and inline"),
        (true, "", "`` is not a valid image name: the repository is missing"),
        (
            false,
            "type=azblob,name=x",
            "the cache type `azblob` is not supported: the types are registry, local and inline",
        ),
        (
            false,
            "type=inline,mode=max",
            "`mode=max` is not supported: an image can hold records of its own layers only: use type=registry for mode=max",
        ),
        (false, "type=inline,ref=x", "the cache type inline has no option `ref`: it has mode"),
        (false, "type=registry,ref=x,mode=mid", "`mode=mid` is not supported: write min or max"),
        (
            false,
            "type=registry,ref=x,ignore-error=no",
            "`ignore-error=no` is not supported: write true or false",
        ),
        (
            false,
            "type=registry,ref=x,image-manifest=false",
            "`image-manifest=false` is not supported: every record is an OCI image manifest",
        ),
        (
            false,
            "type=local,dest=x,compression=zstd",
            "`compression=zstd` is not supported: layers go into a cache as the outputs compress them: say it there",
        ),
        (
            false,
            "type=local,src=x,dest=y",
            "the cache type local has no option `src`: it has dest, mode, ignore-error, image-manifest and oci-mediatypes",
        ),
        (false, "type=local", "the cache type local needs dest=DIR"),
        (
            false,
            &format!("r.io/a@{digest}"),
            &format!(
                "records cannot be written beside `r.io/a@{digest}`: a digest cannot be chosen: drop everything from the @ on"
            ),
        ),
        (
            false,
            &format!("r.io/a:{long}"),
            &format!(
                "records cannot be written beside `r.io/a:{long}`: the tag of a cache has 63 characters at most"
            ),
        ),
    ] {
        let error =
            if from { CacheFrom::parse(text).unwrap_err() } else { CacheTo::parse(text).unwrap_err() };
        assert_eq!(error.to_string(), want, "{text}");
    }
}
