use super::super::fake::{Access, Act, Fake, When};
use super::super::{ErrorKind, RegistryError};
use super::{Bench, content, descriptor};
use crate::image::media_type::OCI_MANIFEST;
use crate::image::{Descriptor, Digest, RawManifest};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"layers":[],"config":{}}"#;

fn answer(status: u16) -> Act {
    Act::Answer(status, Vec::new(), String::new())
}

async fn pull(bench: &Bench, wanted: &Descriptor) -> (Result<(), RegistryError>, Option<Vec<u8>>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blob");
    let result = bench.client.pull_blob(&bench.repository("a/b"), wanted, &file, &|_| {}).await;
    (result, std::fs::read(&file).ok())
}

async fn with_manifest() -> Bench {
    let bench = Bench::new(Access::Open).await;
    bench.fake.add_manifest("a/b", "v1", OCI_MANIFEST, MANIFEST);
    bench
}

async fn resolve(bench: &Bench, name: &str) -> Result<RawManifest, RegistryError> {
    bench.client.resolve(&bench.reference(name)).await
}

#[tokio::test]
async fn resolves_with_two_requests() {
    let bench = with_manifest().await;
    let manifest = resolve(&bench, "a/b:v1").await.unwrap();
    assert_eq!((manifest.bytes.as_slice(), manifest.media_type.as_str()), (MANIFEST, OCI_MANIFEST));
    assert_eq!(bench.fake.count("", ""), 2, "one to find the scheme, one for the manifest");
    let by_digest = format!("a/b@{}", Digest::of(MANIFEST));
    assert_eq!(resolve(&bench, &by_digest).await.unwrap(), manifest);
    let found = bench.client.manifest(&bench.repository("a/b"), &manifest.descriptor()).await.unwrap();
    assert_eq!(found, manifest);
    assert_eq!(bench.fake.count("", ""), 4);
}

#[tokio::test]
async fn digests_by_head_or_get() {
    let digest = Digest::of(MANIFEST);
    for rule in [
        None,
        Some(answer(404)),
        Some(answer(405)),
        Some(Act::Header("Docker-Content-Digest", "junk".into())),
    ] {
        let bench = with_manifest().await;
        if let Some(act) = rule {
            bench.fake.rule("HEAD", "/manifests/", When::Always, act);
        }
        assert_eq!(bench.client.resolve_digest(&bench.reference("a/b:v1")).await.unwrap(), digest);
        assert!(bench.client.resolve_digest(&bench.reference("a/b:nosuch")).await.is_err());
    }
}

#[tokio::test]
async fn missing_images_are_not_found() {
    let bench = with_manifest().await;
    let error = resolve(&bench, "a/b:v2").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let want = format!(
        "failed to pull manifest `v2` from `{}/a/b`: HTTP 404: MANIFEST_UNKNOWN: no",
        bench.fake.address
    );
    assert_eq!(error.to_string(), want);
    let digest = Digest::of(MANIFEST);
    assert!(bench.client.exists_manifest(&bench.repository("a/b"), &digest).await.unwrap());
    assert!(!bench.client.exists_manifest(&bench.repository("a/c"), &digest).await.unwrap());
    assert_eq!(bench.retries(), 0);
}

#[tokio::test]
async fn passing_faults_are_retried() {
    let text = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"retry-after: 12.5ms"}]}"#;
    for act in [
        answer(408),
        answer(500),
        answer(502),
        answer(503),
        answer(504),
        Act::Answer(429, vec![("Retry-After", "0.01".into())], String::new()),
        Act::Answer(429, Vec::new(), text.into()),
        Act::Reset,
        Act::Garbage,
        Act::Hang,
        Act::Truncate(7),
        Act::Spoil,
    ] {
        let bench = with_manifest().await;
        bench.fake.rule("GET", "/manifests/", When::First(1), act);
        assert_eq!(resolve(&bench, "a/b:v1").await.unwrap().bytes, MANIFEST);
        assert_eq!((bench.retries(), bench.fake.count("GET", "/manifests/")), (1, 2));
    }
}

#[tokio::test]
async fn lasting_faults_are_not() {
    let html = Act::Answer(200, vec![("Content-Type", "text/html".into())], "<html>".into());
    let long = Act::Answer(200, vec![("Content-Type", OCI_MANIFEST.into())], " ".repeat(5 << 20));
    let lie = Act::Header("Docker-Content-Digest", Digest::of(b"").to_string());
    for (act, kind, requests) in [
        (answer(400), ErrorKind::Refused, 1),
        (answer(403), ErrorKind::Authentication, 1),
        (answer(451), ErrorKind::Refused, 1),
        (answer(501), ErrorKind::Refused, 1),
        (html, ErrorKind::Protocol, 1),
        (long, ErrorKind::Protocol, 1),
        (lie, ErrorKind::Protocol, 2),
        (Act::Spoil, ErrorKind::Protocol, 2),
        (answer(503), ErrorKind::Retryable, 5),
        (Act::Answer(429, vec![("Retry-After", "4000".into())], String::new()), ErrorKind::Retryable, 1),
    ] {
        let bench = Bench::with(Access::Open, |config, _| {
            config.retry.budget = std::time::Duration::from_secs(60);
        })
        .await;
        bench.fake.add_manifest("a/b", "v1", OCI_MANIFEST, MANIFEST);
        bench.fake.rule("GET", "/manifests/", When::Always, act);
        let error = resolve(&bench, "a/b:v1").await.unwrap_err();
        assert_eq!((error.kind(), bench.fake.count("GET", "/manifests/")), (kind, requests), "{error}");
    }
}

#[tokio::test]
async fn blobs_arrive_whole() {
    let bytes = content(3_000_000);
    let bench = Bench::new(Access::Open).await;
    bench.fake.add_blob("a/b", &bytes);
    bench.fake.add_blob("a/b", b"");
    assert!(pull(&bench, &descriptor(&bytes)).await.1.unwrap() == bytes);
    assert_eq!(pull(&bench, &descriptor(b"")).await.1.unwrap(), b"");
    let small =
        bench.client.fetch_small(&bench.repository("a/b"), &descriptor(&bytes), 4_000_000).await.unwrap();
    assert!(small == bytes);
    let error =
        bench.client.fetch_small(&bench.repository("a/b"), &descriptor(&bytes), 4000).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn broken_downloads_are_resumed() {
    let bytes = content(1_000_000);
    let bench = Bench::new(Access::Open).await;
    bench.fake.add_blob("a/b", &bytes);
    bench.fake.rule("GET", "/blobs/", When::First(7), Act::Truncate(120_000));
    assert!(pull(&bench, &descriptor(&bytes)).await.1.unwrap() == bytes);
    let ranges: Vec<_> = bench
        .fake
        .seen("GET", "/blobs/")
        .iter()
        .map(|seen| seen.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges[..3], [None, Some("bytes=120000-".into()), Some("bytes=240000-".into())]);
    assert_eq!(ranges.len(), 8, "no byte is fetched twice");
    assert_eq!(bench.fake.seen("GET", "/blobs/")[1].header("if-range"), Some("\"e\""));
}

#[tokio::test]
async fn registries_that_cannot_resume() {
    let bytes = content(500_000);
    let whole = String::from_utf8(vec![b'x'; 500_000]).unwrap();
    for act in [
        answer(416),
        Act::Answer(206, vec![("Content-Range", "bytes 5-9/10".into())], "12345".into()),
        Act::Answer(200, Vec::new(), whole),
    ] {
        let bench = Bench::new(Access::Open).await;
        bench.fake.add_blob("a/b", &bytes);
        bench.fake.rule("GET", "/blobs/", When::First(1), Act::Truncate(1000));
        bench.fake.rule("GET", "/blobs/", When::First(1), act);
        assert!(pull(&bench, &descriptor(&bytes)).await.1.unwrap() == bytes);
    }
}

#[tokio::test]
async fn wrong_content_is_fetched_once_more() {
    let bytes = content(5000);
    let long = String::from_utf8(vec![b'x'; 9000]).unwrap();
    for (act, times, good) in [
        (Act::Spoil, 1, true),
        (Act::Spoil, 9, false),
        (Act::Answer(200, Vec::new(), long.clone()), 1, true),
        (Act::Answer(200, Vec::new(), long), 9, false),
    ] {
        let bench = Bench::new(Access::Open).await;
        bench.fake.add_blob("a/b", &bytes);
        bench.fake.rule("GET", "/blobs/", When::First(times), act);
        let (result, file) = pull(&bench, &descriptor(&bytes)).await;
        assert_eq!((result.is_ok(), file.is_some()), (good, good));
        assert_eq!(bench.fake.count("GET", "/blobs/"), 2);
        assert!(result.err().is_none_or(|error| error.kind() == ErrorKind::Protocol));
    }
}

#[tokio::test]
async fn unwritable_files_are_local_errors() {
    let bytes = content(5_000_000);
    let bench = Bench::new(Access::Open).await;
    bench.fake.add_blob("a/b", &bytes);
    let full = std::path::Path::new("/dev/full");
    let wanted = descriptor(&bytes);
    let link = tempfile::tempdir().unwrap();
    let file = link.path().join("blob");
    std::os::unix::fs::symlink(full, &file).unwrap();
    let error = bench.client.pull_blob(&bench.repository("a/b"), &wanted, &file, &|_| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Local);
    assert_eq!(error.io_error().unwrap().kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(error.hint().unwrap(), "free some disk space");
}

#[tokio::test]
async fn every_second_request_fails() {
    for (act, spared) in [(answer(500), 0), (answer(500), 1), (Act::Reset, 0), (Act::Reset, 1)] {
        let bytes = content(400_000);
        let bench = with_manifest().await;
        bench.fake.add_blob("a/b", &bytes);
        bench.fake.rule("", "", When::Every(2, spared), act);
        for _ in 0..25 {
            resolve(&bench, "a/b:v1").await.unwrap();
            pull(&bench, &descriptor(&bytes)).await.0.unwrap();
        }
    }
}

#[tokio::test]
async fn redirects_get_no_credentials() {
    let bytes = content(5000);
    let other = Fake::start(Access::Open).await;
    other.add_blob("a/b", &bytes);
    let bench = Bench::logged_in(Access::Basic).await;
    let target = format!("http://{}/v2/a/b/blobs/{}?sig=secret", other.address, Digest::of(&bytes));
    bench.fake.rule(
        "GET",
        "/blobs/",
        When::Always,
        Act::Answer(307, vec![("Location", target)], String::new()),
    );
    pull(&bench, &descriptor(&bytes)).await.0.unwrap();
    assert!(bench.fake.seen("GET", "/blobs/").iter().all(|seen| seen.header("authorization").is_some()));
    assert_eq!(other.count("", ""), 1);
    assert_eq!(other.seen("", "")[0].header("authorization"), None);
    other.rule("", "", When::Always, Act::Answer(403, Vec::new(), "Signature sig=secret".into()));
    let error = pull(&bench, &descriptor(b"x")).await.0.unwrap_err();
    assert!(!error.to_string().contains("?"), "{error}");
    let around = Act::Answer(307, vec![("Location", "/v2/a/b/manifests/v1".into())], String::new());
    bench.fake.rule("GET", "/manifests/", When::Always, around);
    assert_eq!(resolve(&bench, "a/b:v1").await.unwrap_err().kind(), ErrorKind::Protocol);
}
