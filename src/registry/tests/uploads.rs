use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::fake::{Access, Act, Fake, When};
use super::super::{ErrorKind, Pushed, RegistryError};
use super::{Bench, content, descriptor};

const MIB: usize = 1024 * 1024;

fn answer(status: u16) -> Act {
    Act::Answer(status, Vec::new(), String::new())
}

struct Source {
    bytes: Vec<u8>,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Source {
    fn new(length: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (bytes, file) = (content(length), directory.path().join("blob"));
        std::fs::write(&file, &bytes).unwrap();
        Self { bytes, file, _directory: directory }
    }

    async fn push(&self, bench: &Bench, from: &[&str]) -> Result<Pushed, RegistryError> {
        let from: Vec<_> = from.iter().map(|name| bench.repository(name)).collect();
        let last = AtomicU64::new(0);
        let progress = |count| last.store(count, Ordering::Relaxed);
        let result = bench
            .client
            .push_blob(&bench.repository("a/b"), &descriptor(&self.bytes), &self.file, &from, &progress)
            .await;
        if result.as_ref().is_ok_and(|pushed| *pushed == Pushed::Uploaded) {
            assert!(bench.fake.blob("a/b", &self.bytes).is_none_or(|stored| stored == self.bytes));
            assert_eq!(last.load(Ordering::Relaxed), self.bytes.len() as u64);
        }
        result
    }
}

#[tokio::test]
async fn the_short_ways() {
    let source = Source::new(300_000);
    let bench = Bench::new(Access::Open).await;
    assert_eq!(source.push(&bench, &[]).await.unwrap(), Pushed::Uploaded);
    assert_eq!(bench.fake.seen("PUT", "")[0].header("content-length"), Some("300000"));
    assert_eq!(source.push(&bench, &[]).await.unwrap(), Pushed::AlreadyThere);
    let bench = Bench::new(Access::Open).await;
    bench.fake.add_blob("a/b", &source.bytes);
    assert_eq!(source.push(&bench, &["base"]).await.unwrap(), Pushed::AlreadyThere);
    assert_eq!(bench.fake.count("POST", ""), 0);
    let bench = Bench::new(Access::Open).await;
    bench.fake.add_blob("base", &source.bytes);
    assert_eq!(source.push(&bench, &["base"]).await.unwrap(), Pushed::Mounted);
    let empty = Source::new(0);
    assert_eq!(empty.push(&Bench::new(Access::Open).await, &[]).await.unwrap(), Pushed::Uploaded);
}

#[tokio::test]
async fn mounts_that_do_not_work() {
    let source = Source::new(1000);
    let bench = Bench::new(Access::Open).await;
    assert_eq!(source.push(&bench, &["base"]).await.unwrap(), Pushed::Uploaded);
    assert_eq!(bench.fake.count("POST", ""), 1, "the session that the mount opened is used");
    for status in [401, 403, 404, 405] {
        let bench = Bench::new(Access::Open).await;
        bench.fake.rule("POST", "mount=", When::Always, answer(status));
        assert_eq!(source.push(&bench, &["base"]).await.unwrap(), Pushed::Uploaded);
        assert_eq!((bench.fake.count("POST", ""), bench.retries()), (2, 0));
    }
    let bench = Bench::new(Access::Open).await;
    let elsewhere = "other.io/base".parse::<crate::image::Reference>().unwrap().repository().clone();
    let from = [bench.repository("a/b"), elsewhere];
    bench
        .client
        .push_blob(&bench.repository("a/b"), &descriptor(&source.bytes), &source.file, &from, &|_| {})
        .await
        .unwrap();
    assert_eq!(bench.fake.count("POST", "mount="), 0);
}

#[tokio::test]
async fn faults_on_the_way() {
    let source = Source::new(200_000);
    for (method, path, act, times, puts) in [
        ("HEAD", "/blobs/", answer(405), 9, 1),
        ("HEAD", "/blobs/", answer(500), 9, 1),
        ("HEAD", "/blobs/", answer(501), 9, 1),
        ("HEAD", "/blobs/", Act::Reset, 1, 1),
        ("POST", "", answer(503), 2, 1),
        ("POST", "", Act::Reset, 2, 1),
        ("PUT", "", answer(500), 2, 3),
        ("PUT", "", Act::Reset, 2, 3),
        ("PUT", "", Act::Hang, 1, 2),
        ("PUT", "", answer(404), 2, 3),
        ("PUT", "", answer(429), 1, 2),
    ] {
        let bench = Bench::new(Access::Open).await;
        bench.fake.rule(method, path, When::First(times), act);
        assert_eq!(source.push(&bench, &[]).await.unwrap(), Pushed::Uploaded, "{method}");
        assert_eq!(bench.fake.count("PUT", ""), puts, "{method}");
        assert_eq!(bench.fake.open_uploads(), 0, "what is given up is cancelled");
    }
}

#[tokio::test]
async fn a_lost_final_answer_uploads_nothing_twice() {
    let source = Source::new(200_000);
    let bench = Bench::new(Access::Open).await;
    bench.fake.rule("PUT", "", When::First(1), Act::Lose);
    assert_eq!(source.push(&bench, &[]).await.unwrap(), Pushed::Uploaded);
    assert_eq!((bench.fake.count("PUT", ""), bench.fake.count("HEAD", "")), (1, 2));
}

#[tokio::test]
async fn lasting_refusals() {
    let source = Source::new(1000);
    let elsewhere = Act::Answer(202, vec![("Location", "ftp://x/".into())], String::new());
    for (method, act, kind) in [
        ("POST", answer(403), ErrorKind::Authentication),
        ("POST", answer(404), ErrorKind::Refused),
        ("POST", answer(202), ErrorKind::Protocol),
        ("POST", elsewhere, ErrorKind::Protocol),
        ("PUT", answer(400), ErrorKind::Refused),
        ("PUT", answer(413), ErrorKind::Refused),
        ("PUT", answer(503), ErrorKind::Retryable),
    ] {
        let bench = Bench::new(Access::Open).await;
        bench.fake.rule(method, "", When::Always, act);
        assert_eq!(source.push(&bench, &[]).await.unwrap_err().kind(), kind, "{method}");
        assert_eq!(bench.fake.open_uploads(), 0);
    }
    let bench = Bench::new(Access::Open).await;
    std::fs::write(&source.file, b"short").unwrap();
    assert_eq!(source.push(&bench, &[]).await.unwrap_err().kind(), ErrorKind::Local);
    assert_eq!(bench.fake.count("POST", ""), 0);
}

#[tokio::test]
async fn a_location_elsewhere_gets_no_credentials() {
    let source = Source::new(1000);
    let other = Fake::start(Access::Open).await;
    other.rule("PUT", "", When::Always, answer(201));
    let bench = Bench::logged_in(Access::Basic).await;
    let location = format!("http://{}/store?sig=1", other.address);
    bench.fake.rule("POST", "", When::Always, Act::Answer(202, vec![("Location", location)], String::new()));
    assert_eq!(source.push(&bench, &[]).await.unwrap(), Pushed::Uploaded);
    let seen = other.seen("PUT", "");
    assert_eq!(
        seen[0].path,
        format!("/store?sig=1&digest={}", descriptor(&source.bytes).digest).replace("sha256:", "sha256%3A")
    );
    assert_eq!((seen[0].header("authorization"), &seen[0].body), (None, &source.bytes));
    assert!(bench.fake.seen("POST", "")[0].header("authorization").is_some());
}

#[tokio::test]
async fn chunks_where_they_are_asked_for() {
    let source = Source::new(9 * MIB);
    let bench = Bench::new(Access::Open).await;
    bench.fake.rule("PUT", "", When::First(1), answer(413));
    assert_eq!(source.push(&bench, &[]).await.unwrap(), Pushed::Uploaded);
    let ranges: Vec<_> = bench
        .fake
        .seen("PATCH", "")
        .iter()
        .filter_map(|seen| seen.header("content-range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, ["0-4194303", "4194304-8388607"]);
    assert_eq!(bench.fake.seen("PUT", "")[1].header("content-range"), Some("8388608-9437183"));
    let bench = Bench::new(Access::Open).await;
    bench.fake.rule("POST", "", When::Always, Act::Header("OCI-Chunk-Min-Length", (5 * MIB).to_string()));
    assert_eq!(source.push(&bench, &[]).await.unwrap(), Pushed::Uploaded);
    assert_eq!((bench.fake.count("PATCH", ""), bench.fake.count("PUT", "")), (1, 1));
}

#[tokio::test]
async fn broken_chunks() {
    let source = Source::new(13 * MIB);
    for (act, patches, posts) in [
        (Act::Lose, 3, 1),
        (Act::Reset, 4, 1),
        (answer(503), 4, 1),
        (answer(416), 4, 2),
        (Act::Header("Range", "0-7".into()), 4, 2),
        (Act::Header("Range", "0-99999999".into()), 4, 2),
    ] {
        let bench = Bench::new(Access::Open).await;
        bench.fake.rule("POST", "", When::Always, Act::Header("OCI-Chunk-Min-Length", "1".into()));
        bench.fake.rule("PATCH", "", When::First(1), act);
        assert_eq!(source.push(&bench, &[]).await.unwrap(), Pushed::Uploaded);
        assert_eq!((bench.fake.count("PATCH", ""), bench.fake.count("POST", "")), (patches, posts));
        assert_eq!(bench.fake.open_uploads(), 0);
    }
}

#[tokio::test]
async fn every_second_request_fails() {
    let acts = [answer(503), Act::Reset, answer(500), answer(502), answer(429)];
    for (length, chunk, acts) in
        [(200_000, None, &acts[..]), (0, None, &acts[..2]), (9 * MIB, Some("1"), &acts[..2])]
    {
        let source = Source::new(length);
        for act in acts {
            for spared in [0, 1] {
                for from in [&[][..], &["base"]] {
                    let bench = Bench::logged_in(Access::Bearer).await;
                    if let Some(chunk) = chunk {
                        let header = Act::Header("OCI-Chunk-Min-Length", chunk.into());
                        bench.fake.rule("POST", "", When::Every(2, 1 - spared), header);
                    }
                    bench.fake.rule("", "", When::Every(2, spared), act.clone());
                    assert_eq!(source.push(&bench, from).await.unwrap(), Pushed::Uploaded);
                    assert_eq!(bench.fake.blob("a/b", &source.bytes).as_ref(), Some(&source.bytes));
                }
            }
        }
    }
}

#[tokio::test]
async fn every_second_of_many_requests_fails() {
    let sources: Vec<_> = (0..16).map(|number| Source::new(1000 + number)).collect();
    for act in [answer(503), Act::Reset] {
        for spared in [0, 1] {
            let bench = Bench::new(Access::Open).await;
            bench.fake.rule("", "", When::Every(2, spared), act.clone());
            let pushes = sources.iter().map(|source| source.push(&bench, &[]));
            for result in futures::future::join_all(pushes).await {
                assert_eq!(result.unwrap(), Pushed::Uploaded);
            }
        }
    }
}

#[tokio::test]
async fn a_mount_outlives_a_fault() {
    let source = Source::new(1000);
    for (act, times, want) in [
        (answer(503), 1, Pushed::Mounted),
        (Act::Reset, 1, Pushed::Mounted),
        (Act::Lose, 1, Pushed::Mounted),
        (answer(500), 9, Pushed::Uploaded),
    ] {
        let bench = Bench::new(Access::Open).await;
        bench.fake.add_blob("base", &source.bytes);
        bench.fake.rule("POST", "mount=", When::First(times), act);
        assert_eq!(source.push(&bench, &["base"]).await.unwrap(), want);
    }
}

#[tokio::test]
async fn a_failed_request_is_sent_again_to_the_same_place() {
    let source = Source::new(200_000);
    // Sessions, heads and puts: a place that may hold a part is left, and so is one that is gone.
    for (rules, want) in [
        (&[(answer(503), 1)][..], (1, 2, 2)),
        (&[(answer(429), 3)], (1, 1, 4)),
        (&[(Act::Reset, 1)], (2, 2, 2)),
        (&[(Act::Reset, 2)], (2, 2, 3)),
        (&[(answer(500), 1), (answer(404), 1)], (2, 3, 3)),
        (&[(answer(502), 1), (answer(400), 1)], (2, 3, 3)),
        (&[(answer(500), 1), (Act::Lose, 1), (answer(404), 1)], (1, 3, 3)),
    ] {
        let bench = Bench::new(Access::Open).await;
        for (act, times) in rules {
            bench.fake.rule("PUT", "", When::First(*times), act.clone());
        }
        assert_eq!(source.push(&bench, &[]).await.unwrap(), Pushed::Uploaded);
        let count = |method| bench.fake.count(method, "/blobs/");
        assert_eq!((count("POST"), count("HEAD"), count("PUT")), want, "{}", rules.len());
        assert_eq!(bench.fake.open_uploads(), 0);
    }
}

#[tokio::test]
async fn sessions_are_not_begun_without_end() {
    let source = Source::new(9 * MIB);
    let bench = Bench::new(Access::Open).await;
    bench.fake.rule("POST", "", When::Always, Act::Header("OCI-Chunk-Min-Length", "1".into()));
    bench.fake.rule("PUT", "", When::Always, answer(404));
    assert_eq!(source.push(&bench, &[]).await.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(bench.fake.count("POST", ""), 4);
}
