use std::collections::BTreeMap;

use super::super::fake::{Access, Act, When};
use super::super::{ErrorKind, Pushed, Target};
use super::{Bench, content, descriptor};
use crate::image::media_type::OCI_CONFIG;
use crate::image::{Descriptor, Digest, ImageManifest, Index, RawManifest};

fn answer(status: u16, code: &str) -> Act {
    Act::Answer(status, Vec::new(), format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#))
}

fn manifest(config: &[u8]) -> RawManifest {
    RawManifest::from_image(&ImageManifest::new(
        Descriptor::of(OCI_CONFIG, config),
        Vec::new(),
        BTreeMap::new(),
    ))
}

#[tokio::test]
async fn exact_bytes_under_digest_and_tag() {
    let bench = Bench::new(Access::Open).await;
    let repository = bench.repository("a/b");
    let manifest = manifest(b"{}");
    bench.client.push_manifest(&repository, &manifest, Target::Digest).await.unwrap();
    bench.client.push_manifest(&repository, &manifest, Target::Tag("v1")).await.unwrap();
    assert_eq!(bench.fake.manifest("a/b", "v1").unwrap(), manifest.bytes);
    let puts = bench.fake.seen("PUT", "/manifests/");
    assert!(puts.iter().all(|seen| seen.header("content-type") == Some(&manifest.media_type)));
    assert_eq!(puts[0].path, format!("/v2/a/b/manifests/{}", manifest.digest()));
    let error = bench.client.push_manifest(&repository, &manifest, Target::Tag("../x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn lost_answers_and_refusals() {
    let other = Digest::of(b"other").to_string();
    for (act, times, want) in [
        (Act::Lose, 1, Ok(())),
        (answer(500, ""), 2, Ok(())),
        (answer(404, "MANIFEST_BLOB_UNKNOWN"), 1, Ok(())),
        (answer(400, "TAG_IMMUTABLE"), 9, Err(ErrorKind::Refused)),
        (answer(403, "DENIED"), 9, Err(ErrorKind::Authentication)),
        (Act::Header("Docker-Content-Digest", other), 9, Err(ErrorKind::Protocol)),
    ] {
        let bench = Bench::new(Access::Open).await;
        bench.fake.add_blob("a/b", b"{}");
        bench.fake.rule("PUT", "/manifests/", When::First(times), act);
        let result =
            bench.client.push_manifest(&bench.repository("a/b"), &manifest(b"{}"), Target::Tag("v1")).await;
        assert_eq!(result.map_err(|error| error.kind()), want);
    }
}

#[tokio::test]
async fn lost_blobs_are_uploaded_again() {
    let bench = Bench::new(Access::Open).await;
    let repository = bench.repository("a/b");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    std::fs::write(&file, b"{}").unwrap();
    // The registry says that it is there, and then that it is not.
    bench.fake.rule("HEAD", "/blobs/", When::First(1), Act::Answer(200, Vec::new(), String::new()));
    let pushed = bench.client.push_blob(&repository, &descriptor(b"{}"), &file, &[], &|_| {}).await.unwrap();
    assert_eq!(pushed, Pushed::AlreadyThere);
    bench.fake.rule("PUT", "/manifests/", When::First(1), answer(404, "MANIFEST_BLOB_UNKNOWN"));
    bench.client.push_manifest(&repository, &manifest(b"{}"), Target::Tag("v1")).await.unwrap();
    assert_eq!(bench.fake.blob("a/b", b"{}").unwrap(), b"{}");
    assert_eq!(bench.fake.count("PUT", "/manifests/"), 2);
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let bench = Bench::new(Access::Open).await;
    let child = manifest(b"{}");
    let index = RawManifest::from_index(&Index::new(vec![child.descriptor()], BTreeMap::new()));
    bench.fake.rule("PUT", "/manifests/", When::Always, answer(400, "MANIFEST_BLOB_UNKNOWN"));
    let error =
        bench.client.push_manifest(&bench.repository("a/b"), &index, Target::Tag("v1")).await.unwrap_err();
    assert!(error.to_string().contains(&child.digest().to_string()), "{error}");
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn a_lost_race_for_a_tag_is_told() {
    let bench = Bench::new(Access::Open).await;
    bench.fake.rule(
        "HEAD",
        "/manifests/v1",
        When::Always,
        Act::Header("Docker-Content-Digest", Digest::of(b"").to_string()),
    );
    let result =
        bench.client.push_manifest(&bench.repository("a/b"), &manifest(b"{}"), Target::Tag("v1")).await;
    assert!(result.unwrap_err().to_string().contains("another writer moved the tag"));
}

#[tokio::test]
async fn what_is_there_is_not_sent() {
    let manifest = manifest(b"{}");
    let digest = manifest.digest();
    // Whether the caller asked before; requests for a name that is there, and for one that is not.
    for (asks, there, absent) in [(false, (1, 0), (1, 1)), (true, (1, 0), (1, 1))] {
        let bench = Bench::new(Access::Open).await;
        let (old, new) = (bench.repository("old"), bench.repository("new"));
        bench.fake.add_manifest("old", "v1", &manifest.media_type, &manifest.bytes);
        for (repository, want) in [(old, there), (new, absent)] {
            if asks {
                let found = bench.client.exists_manifest(&repository, &digest).await.unwrap();
                assert_eq!(found, want.1 == 0);
            }
            bench.client.push_manifest(&repository, &manifest, Target::Digest).await.unwrap();
            let path = format!("{}/manifests/sha256", repository.path());
            assert_eq!((bench.fake.count("HEAD", &path), bench.fake.count("PUT", &path)), want);
            if asks {
                let found = bench.client.is_tagged(&repository, "v1", &digest).await.unwrap();
                assert_eq!(found, want.1 == 0);
            }
            bench.client.push_manifest(&repository, &manifest, Target::Tag("v1")).await.unwrap();
            let path = format!("{}/manifests/v1", repository.path());
            // A tag that was moved is looked at once more.
            let want = (want.0 + want.1, want.1);
            assert_eq!((bench.fake.count("HEAD", &path), bench.fake.count("PUT", &path)), want);
        }
    }
}

#[tokio::test]
async fn a_right_tag_says_that_the_manifest_is_there() {
    let bench = Bench::new(Access::Open).await;
    let (repository, manifest) = (bench.repository("a/b"), manifest(b"{}"));
    bench.fake.add_manifest("a/b", "v1", &manifest.media_type, &manifest.bytes);
    assert!(bench.client.is_tagged(&repository, "v1", &manifest.digest()).await.unwrap());
    assert!(bench.client.exists_manifest(&repository, &manifest.digest()).await.unwrap());
    bench.client.push_manifest(&repository, &manifest, Target::Digest).await.unwrap();
    bench.client.push_manifest(&repository, &manifest, Target::Tag("v1")).await.unwrap();
    assert_eq!(bench.fake.count("", "/manifests/"), 1);
    // What was seen is used once: the tag may have moved since.
    bench.client.push_manifest(&repository, &manifest, Target::Tag("v1")).await.unwrap();
    assert_eq!((bench.fake.count("HEAD", ""), bench.fake.count("PUT", "")), (2, 0));
}

#[tokio::test]
async fn every_second_request_fails() {
    for (act, spared) in [(answer(503, ""), 0), (answer(503, ""), 1), (Act::Reset, 0), (Act::Reset, 1)] {
        let bench = Bench::logged_in(Access::Bearer).await;
        let repository = bench.repository("a/b");
        bench.fake.rule("", "", When::Every(2, spared), act);
        for (config, tag) in [("{}", "v1"), ("{} ", "v1"), ("{}", "v2")] {
            let manifest = manifest(config.as_bytes());
            bench.client.push_manifest(&repository, &manifest, Target::Digest).await.unwrap();
            bench.client.push_manifest(&repository, &manifest, Target::Tag(tag)).await.unwrap();
            assert_eq!(bench.fake.manifest("a/b", tag).unwrap(), manifest.bytes);
        }
    }
}

#[tokio::test]
async fn a_tag_that_cannot_be_moved_is_right_already() {
    let bench = Bench::new(Access::Open).await;
    bench.fake.rule("PUT", "", When::First(1), Act::Lose);
    bench.fake.rule("PUT", "", When::Always, answer(400, "TAG_INVALID"));
    for _ in 0..2 {
        let target = Target::Tag("v1");
        bench.client.push_manifest(&bench.repository("a/b"), &manifest(b"{}"), target).await.unwrap();
    }
    assert_eq!(bench.fake.count("PUT", ""), 2);
}

#[tokio::test]
async fn one_upload_for_all_platforms() {
    let bench = Bench::new(Access::Open).await;
    let repository = bench.repository("a/b");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blob");
    let bytes = content(100_000);
    std::fs::write(&file, &bytes).unwrap();
    let wanted = descriptor(&bytes);
    let push = || bench.client.push_blob(&repository, &wanted, &file, &[], &|_| {});
    let (a, b, c) = tokio::join!(push(), push(), push());
    let mut results = [a.unwrap(), b.unwrap(), c.unwrap()];
    results.sort_by_key(|pushed| *pushed == Pushed::Uploaded);
    assert_eq!(results, [Pushed::AlreadyThere, Pushed::AlreadyThere, Pushed::Uploaded]);
    assert_eq!((bench.fake.count("HEAD", "/blobs/"), bench.fake.count("PUT", "/blobs/")), (1, 1));
    let bad = Bench::new(Access::Open).await;
    bad.fake.rule("POST", "", When::Always, answer(400, "NO"));
    let repository = bad.repository("a/b");
    let push = || bad.client.push_blob(&repository, &wanted, &file, &[], &|_| {});
    let (a, b, c) = tokio::join!(push(), push(), push());
    assert!(a.is_err() && b.is_err() && c.is_err());
    assert_eq!(bad.fake.count("POST", ""), 2, "the leader's and one follower's");
}
