use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::fake::{Access, Act, When};
use super::super::{ErrorKind, RegistryError};
use super::{Bench, login};
use crate::image::media_type::{OCI_CONFIG, OCI_MANIFEST};
use crate::image::{Descriptor, Digest, ImageManifest, RawManifest};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"layers":[],"config":{}}"#;

fn answer(status: u16, code: &str) -> Act {
    Act::Answer(status, Vec::new(), format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#))
}

async fn find(bench: &Bench, tag: &str) -> Result<Option<RawManifest>, RegistryError> {
    bench.client.find_record(&bench.repository("c/d"), tag, 1000).await
}

fn record() -> RawManifest {
    let config = Descriptor::of(OCI_CONFIG, b"{}");
    RawManifest::from_image(&ImageManifest::new(config, Vec::new(), BTreeMap::new()))
}

#[tokio::test]
async fn one_request_for_each() {
    let bench = Bench::new(Access::Open).await;
    bench.fake.add_manifest("c/d", "v1", OCI_MANIFEST, MANIFEST);
    assert_eq!(find(&bench, "v1").await.unwrap().unwrap().bytes, MANIFEST);
    assert_eq!(find(&bench, "v2").await.unwrap(), None);
    bench.fake.rule("GET", "/manifests/", When::First(1), answer(404, "NAME_UNKNOWN"));
    assert_eq!(find(&bench, "v1").await.unwrap(), None);
    assert_eq!(bench.fake.count("", ""), 4, "one to find the scheme, and one for each");
    assert_eq!(find(&bench, "../v").await.unwrap_err().kind(), ErrorKind::Configuration);
    let long = String::from_utf8(vec![b' '; 1001]).unwrap();
    for act in [
        Act::Answer(200, vec![("Content-Type", OCI_MANIFEST.into())], long),
        Act::Header("Docker-Content-Digest", Digest::of(b"other").to_string()),
    ] {
        let bench = Bench::new(Access::Open).await;
        bench.fake.add_manifest("c/d", "v1", OCI_MANIFEST, MANIFEST);
        bench.fake.rule("GET", "/manifests/", When::Always, act);
        assert_eq!(find(&bench, "v1").await.unwrap_err().kind(), ErrorKind::Protocol);
    }
}

#[tokio::test]
async fn hundreds_at_once() {
    let bench = Bench::with(Access::Bearer, |config, fake| {
        config.credentials = login(&fake.address.to_string());
    })
    .await;
    let tags: Vec<String> = (0..300).map(|number| format!("v{number}")).collect();
    let found = futures::future::join_all(tags.iter().map(|tag| find(&bench, tag))).await;
    assert!(found.into_iter().all(|found| found.unwrap().is_none()));
    assert_eq!((bench.fake.count("", "/token"), bench.fake.count("GET", "/manifests/")), (1, 300));
    assert!(bench.fake.connections() <= 40, "{}", bench.fake.connections());
}

#[tokio::test]
async fn trouble_is_met_once() {
    // The first alone is refused; a registry that throttles or hangs is met by those under way.
    for (act, kind, most) in [
        (answer(401, "UNAUTHORIZED"), ErrorKind::Authentication, 1),
        (answer(403, "DENIED"), ErrorKind::Authentication, 1),
        (Act::Answer(429, vec![("Retry-After", "60".into())], String::new()), ErrorKind::Retryable, 1),
        (Act::Hang, ErrorKind::Retryable, 2),
        (answer(500, ""), ErrorKind::Retryable, 200 * 8),
    ] {
        let bench = Bench::new(Access::Open).await;
        bench.fake.rule("GET", "/manifests/", When::Always, act);
        let begun = Instant::now();
        let tags: Vec<String> = (0..200).map(|number| format!("v{number}")).collect();
        let found = futures::future::join_all(tags.iter().map(|tag| find(&bench, tag))).await;
        assert!(found.into_iter().all(|found| found.unwrap_err().kind() == kind));
        let asked = bench.fake.count("GET", "/manifests/");
        assert!(asked <= most, "{asked}");
        // Seconds, with the patience of a test; not minutes.
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test]
async fn trouble_of_one_repository_is_its_own() {
    let bench = Bench::new(Access::Open).await;
    bench.fake.add_manifest("e/f", "v1", OCI_MANIFEST, MANIFEST);
    bench.fake.rule("GET", "/c/d/", When::Always, answer(403, "DENIED"));
    assert_eq!(find(&bench, "v1").await.unwrap_err().kind(), ErrorKind::Authentication);
    let other = bench.client.find_record(&bench.repository("e/f"), "v1", 1000).await;
    assert!(other.unwrap().is_some());
}

#[tokio::test]
async fn puts_without_questions() {
    let bench = Bench::new(Access::Open).await;
    let (repository, record) = (bench.repository("c/d"), record());
    bench.fake.add_manifest("c/d", "v1", OCI_MANIFEST, MANIFEST);
    for _ in 0..2 {
        bench.client.put_record(&repository, &record, "v1").await.unwrap();
    }
    assert_eq!(bench.fake.manifest("c/d", "v1").unwrap(), record.bytes);
    assert_eq!((bench.fake.count("", "/manifests/"), bench.fake.count("PUT", "")), (2, 2));
    let bad = bench.client.put_record(&repository, &record, "../x").await.unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::Configuration);
    bench.fake.rule("PUT", "", When::First(2), answer(503, ""));
    bench.client.put_record(&repository, &record, "v2").await.unwrap();
    bench.fake.rule("PUT", "", When::Always, answer(403, "DENIED"));
    let refused = bench.client.put_record(&repository, &record, "v3").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Authentication);
}

#[tokio::test]
async fn copied_blobs_that_were_lost_are_copied_again() {
    let bench = Bench::new(Access::Open).await;
    bench.fake.add_blob("base/x", b"{}");
    let (from, to) = (bench.repository("base/x"), bench.repository("c/d"));
    // The registry says that it is there, and then that it is not.
    bench.fake.rule("HEAD", "/blobs/", When::First(1), Act::Answer(200, Vec::new(), String::new()));
    bench.fake.rule("POST", "mount=", When::Always, answer(403, "DENIED"));
    bench.client.copy_blob(&from, &to, &Descriptor::of(OCI_CONFIG, b"{}"), &|_| {}).await.unwrap();
    bench.fake.rule("PUT", "/manifests/", When::First(1), answer(404, "MANIFEST_BLOB_UNKNOWN"));
    bench.client.put_record(&to, &record(), "v1").await.unwrap();
    assert_eq!(bench.fake.blob("c/d", b"{}").unwrap(), b"{}");
}

#[tokio::test]
async fn every_second_request_fails() {
    for (act, spared) in [(answer(503, ""), 0), (answer(503, ""), 1), (Act::Reset, 0), (Act::Reset, 1)] {
        let bench = Bench::new(Access::Open).await;
        bench.fake.rule("", "", When::Every(2, spared), act);
        for tag in ["v1", "v2", "v3", "v4"] {
            assert_eq!(find(&bench, tag).await.unwrap(), None);
            bench.client.put_record(&bench.repository("c/d"), &record(), tag).await.unwrap();
            assert_eq!(find(&bench, tag).await.unwrap(), Some(record()));
        }
    }
}
