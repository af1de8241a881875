use std::sync::atomic::{AtomicU64, Ordering};

use super::super::fake::{Access, Act, Fake, When};
use super::super::{ErrorKind, Pushed, RegistryError};
use super::{Bench, content, descriptor, login};
use crate::image::{Reference, Repository};

fn answer(status: u16) -> Act {
    Act::Answer(status, Vec::new(), String::new())
}

/// Two registries: the bench's is where blobs come from.
struct Pair {
    bench: Bench,
    target: Fake,
    bytes: Vec<u8>,
}

impl Pair {
    async fn new(length: usize) -> Self {
        let bytes = content(length);
        let bench = Bench::new(Access::Open).await;
        bench.fake.add_blob("base/x", &bytes);
        Self { bench, target: Fake::start(Access::Open).await, bytes }
    }

    fn target(&self) -> Repository {
        format!("{}/a/b:v1", self.target.address).parse::<Reference>().unwrap().repository().clone()
    }

    async fn copy(&self) -> Result<Pushed, RegistryError> {
        let last = AtomicU64::new(0);
        let progress = |count| last.store(count, Ordering::Relaxed);
        let from = self.bench.repository("base/x");
        let result =
            self.bench.client.copy_blob(&from, &self.target(), &descriptor(&self.bytes), &progress).await;
        match &result {
            Ok(Pushed::Uploaded) => {
                assert!(self.target.blob("a/b", &self.bytes).unwrap() == self.bytes);
                assert_eq!(last.load(Ordering::Relaxed), self.bytes.len() as u64);
            }
            Ok(_) => {}
            Err(_) => assert!(self.target.blob("a/b", &self.bytes).is_none()),
        }
        assert_eq!(self.target.open_uploads(), 0, "what is given up is cancelled");
        result
    }

    fn ranges(&self) -> Vec<Option<String>> {
        let seen = self.bench.fake.seen("GET", "/blobs/");
        seen.iter().map(|seen| seen.header("range").map(str::to_owned)).collect()
    }
}

#[tokio::test]
async fn the_short_ways() {
    let pair = Pair::new(300_000).await;
    assert_eq!(pair.copy().await.unwrap(), Pushed::Uploaded);
    assert_eq!(pair.copy().await.unwrap(), Pushed::AlreadyThere);
    assert_eq!((pair.bench.fake.count("GET", "/blobs/"), pair.target.count("PUT", "")), (1, 1));
    let pair = Pair::new(300_000).await;
    pair.target.add_blob("a/b", &pair.bytes);
    assert_eq!(pair.copy().await.unwrap(), Pushed::AlreadyThere);
    assert_eq!(pair.bench.fake.count("", "/blobs/"), 0);
    assert_eq!(Pair::new(0).await.copy().await.unwrap(), Pushed::Uploaded);
    let bench = Bench::new(Access::Open).await;
    let (from, to, bytes) = (bench.repository("base/x"), bench.repository("a/b"), content(1000));
    bench.fake.add_blob("base/x", &bytes);
    let mounted = bench.client.copy_blob(&from, &to, &descriptor(&bytes), &|_| {}).await.unwrap();
    assert_eq!((mounted, bench.fake.count("GET", "/blobs/")), (Pushed::Mounted, 0));
}

#[tokio::test]
async fn refused_mounts_are_streamed() {
    // More copies than slots within one registry: none waits for another.
    let bench = Bench::with(Access::Open, |config, _| config.parallel = 1).await;
    bench.fake.rule("POST", "mount=", When::Always, answer(403));
    let (from, to) = (bench.repository("base/x"), bench.repository("a/b"));
    let blobs: Vec<_> = (0..6).map(|number| content(200_000 + number)).collect();
    let copies = blobs.iter().map(|bytes| {
        bench.fake.add_blob("base/x", bytes);
        let (bench, from, to) = (&bench, &from, &to);
        async move { bench.client.copy_blob(from, to, &descriptor(bytes), &|_| {}).await }
    });
    let copied = futures::future::join_all(copies).await;
    assert!(copied.into_iter().all(|pushed| pushed.unwrap() == Pushed::Uploaded));
    assert!(blobs.iter().all(|bytes| bench.fake.blob("a/b", bytes).unwrap() == *bytes));
}

#[tokio::test]
async fn a_broken_source_is_resumed() {
    let pair = Pair::new(1_000_000).await;
    pair.bench.fake.rule("GET", "/blobs/", When::First(7), Act::Truncate(120_000));
    assert_eq!(pair.copy().await.unwrap(), Pushed::Uploaded);
    assert_eq!(pair.ranges()[..3], [None, Some("bytes=120000-".into()), Some("bytes=240000-".into())]);
    assert_eq!(
        (pair.ranges().len(), pair.target.count("PUT", "")),
        (8, 1),
        "no byte is fetched or sent twice"
    );
    // Registries that cannot continue, or continue elsewhere.
    for act in [answer(416), Act::Answer(206, vec![("Content-Range", "bytes 5-9/10".into())], "12345".into())]
    {
        let pair = Pair::new(500_000).await;
        pair.bench.fake.rule("GET", "/blobs/", When::First(1), Act::Truncate(1000));
        pair.bench.fake.rule("GET", "/blobs/", When::First(1), act);
        assert_eq!(pair.copy().await.unwrap(), Pushed::Uploaded);
        assert_eq!((pair.ranges().last(), pair.target.count("PUT", "")), (Some(&None), 1));
    }
}

#[tokio::test]
async fn a_broken_target_begins_again() {
    for (method, act, times, puts) in [
        ("POST", answer(503), 2, 1),
        ("POST", Act::Reset, 2, 1),
        ("PUT", answer(500), 2, 3),
        ("PUT", Act::Reset, 2, 3),
        ("PUT", Act::Hang, 1, 2),
        ("PUT", answer(404), 2, 3),
        ("PUT", answer(429), 1, 2),
        ("PUT", Act::Lose, 1, 1),
    ] {
        let pair = Pair::new(400_000).await;
        pair.target.rule(method, "", When::First(times), act);
        assert_eq!(pair.copy().await.unwrap(), Pushed::Uploaded, "{method}");
        assert_eq!(pair.target.count("PUT", ""), puts, "{method}");
    }
}

#[tokio::test]
async fn chunks_are_one_fetch() {
    let pair = Pair::new(10_000_000).await;
    pair.target.rule("PUT", "", When::First(1), answer(413));
    assert_eq!(pair.copy().await.unwrap(), Pushed::Uploaded);
    assert_eq!((pair.target.count("PATCH", ""), pair.ranges().len()), (2, 2), "one for the refused request");
    let pair = Pair::new(10_000_000).await;
    pair.target.rule("POST", "", When::First(1), Act::Header("OCI-Chunk-Min-Length", "5000000".into()));
    // Stored, but not answered: it goes on behind, and what was sent before is only hashed.
    pair.target.rule("PATCH", "", When::First(1), Act::Lose);
    assert_eq!(pair.copy().await.unwrap(), Pushed::Uploaded);
    assert_eq!((pair.target.count("PATCH", ""), pair.target.count("POST", "")), (1, 1));
    let pair = Pair::new(10_000_000).await;
    pair.target.rule("POST", "", When::First(1), Act::Header("OCI-Chunk-Min-Length", "5000000".into()));
    pair.target.rule("PATCH", "", When::First(1), answer(503));
    assert_eq!(pair.copy().await.unwrap(), Pushed::Uploaded);
    assert_eq!((pair.target.count("PATCH", ""), pair.target.count("POST", "")), (2, 1));
}

#[tokio::test]
async fn wrong_content_never_arrives() {
    let long = String::from_utf8(vec![b'x'; 900_000]).unwrap();
    for (act, times, good) in [
        (Act::Spoil, 1, true),
        (Act::Spoil, 9, false),
        (Act::Answer(200, Vec::new(), long.clone()), 1, true),
        (Act::Answer(200, Vec::new(), long), 9, false),
    ] {
        let pair = Pair::new(500_000).await;
        // A registry that would take anything.
        pair.target.rule("PUT", "", When::First(if good { 0 } else { 9 }), answer(201));
        pair.bench.fake.rule("GET", "/blobs/", When::First(times), act);
        let result = pair.copy().await;
        assert_eq!((result.is_ok(), pair.bench.fake.count("GET", "/blobs/")), (good, 2));
        if let Err(error) = result {
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(error.to_string().contains("/base/x`: the content is not what its digest"), "{error}");
            assert_eq!(pair.target.count("PUT", ""), 0, "no request was complete");
        }
    }
}

#[tokio::test]
async fn errors_name_the_side() {
    for (status, kind) in
        [(404, ErrorKind::NotFound), (403, ErrorKind::Authentication), (503, ErrorKind::Retryable)]
    {
        let pair = Pair::new(1000).await;
        pair.bench.fake.rule("GET", "/blobs/", When::Always, answer(status));
        let error = pair.copy().await.unwrap_err();
        assert_eq!((error.kind(), error.host()), (kind, &*pair.bench.fake.address.to_string()));
        assert_eq!(pair.target.count("POST", ""), 0, "nothing is begun before the source has answered");
    }
    let pair = Pair::new(1000).await;
    pair.target.rule("PUT", "", When::Always, answer(403));
    let error = pair.copy().await.unwrap_err();
    assert_eq!((error.kind(), error.host()), (ErrorKind::Authentication, &*pair.target.address.to_string()));
    let pair = Pair::new(900_000).await;
    pair.bench.fake.rule("GET", "/blobs/", When::First(1), Act::Truncate(100_000));
    pair.bench.fake.rule("GET", "/blobs/", When::Always, Act::Reset);
    let error = pair.copy().await.unwrap_err();
    assert_eq!((error.kind(), error.host()), (ErrorKind::Retryable, &*pair.bench.fake.address.to_string()));
}

#[tokio::test]
async fn credentials_do_not_cross() {
    let bytes = content(300_000);
    let bench = Bench::logged_in(Access::Basic).await;
    bench.fake.add_blob("base/x", &bytes);
    let open = Fake::start(Access::Open).await;
    let name =
        |fake: &Fake| format!("{}/a/b:v1", fake.address).parse::<Reference>().unwrap().repository().clone();
    let from = bench.repository("base/x");
    bench.client.copy_blob(&from, &name(&open), &descriptor(&bytes), &|_| {}).await.unwrap();
    assert!(open.seen("", "").iter().all(|seen| seen.header("authorization").is_none()));
    assert!(bench.fake.seen("GET", "/blobs/").iter().all(|seen| seen.header("authorization").is_some()));
    // The other way round: what is read needs none.
    let source = Fake::start(Access::Bearer).await;
    source.add_blob("a/b", &bytes);
    let to = bench.repository("new");
    bench.client.copy_blob(&name(&source), &to, &descriptor(&bytes), &|_| {}).await.unwrap();
    let told: Vec<_> = source
        .seen("", "")
        .iter()
        .filter_map(|seen| seen.header("authorization").map(str::to_owned))
        .collect();
    assert!(!told.is_empty() && told.iter().all(|value| value.starts_with("Bearer ")));
    let pushed: Vec<_> = bench.fake.seen("PUT", "");
    assert!(
        pushed
            .iter()
            .all(|seen| seen.header("authorization").is_some_and(|value| value.starts_with("Basic ")))
    );
}

#[tokio::test]
async fn tokens_are_for_both_repositories() {
    let bytes = content(1000);
    let bench = Bench::with(Access::Bearer, |config, fake| {
        config.credentials = login(&fake.address.to_string());
    })
    .await;
    bench.fake.add_blob("base/x", &bytes);
    bench.fake.rule("POST", "mount=", When::Always, answer(403));
    let (from, to) = (bench.repository("base/x"), bench.repository("a/b"));
    let pushed = bench.client.copy_blob(&from, &to, &descriptor(&bytes), &|_| {}).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
}

#[tokio::test]
async fn copies_and_pushes_share_flights() {
    let pair = Pair::new(300_000).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blob");
    std::fs::write(&file, &pair.bytes).unwrap();
    let (wanted, target) = (descriptor(&pair.bytes), pair.target());
    let push = || pair.bench.client.push_blob(&target, &wanted, &file, &[], &|_| {});
    let (a, b, c, d) = tokio::join!(pair.copy(), push(), pair.copy(), push());
    let results = [a.unwrap(), b.unwrap(), c.unwrap(), d.unwrap()];
    assert_eq!(results.iter().filter(|pushed| **pushed == Pushed::Uploaded).count(), 1);
    assert_eq!((pair.target.count("HEAD", ""), pair.target.count("PUT", "")), (1, 1));
}

#[tokio::test]
async fn every_second_request_fails() {
    for (act, spared) in [(answer(503), 0), (answer(503), 1), (Act::Reset, 0), (Act::Reset, 1)] {
        for length in [1000, 5_000_000] {
            let pair = Pair::new(length).await;
            pair.bench.fake.rule("", "", When::Every(2, spared), act.clone());
            pair.target.rule("", "", When::Every(2, spared), act.clone());
            if length > 1000 {
                let least = Act::Header("OCI-Chunk-Min-Length", "1".into());
                pair.target.rule("POST", "", When::Always, least);
            }
            let from = pair.bench.repository("base/x");
            let wanted = descriptor(&pair.bytes);
            pair.bench.client.copy_blob(&from, &pair.target(), &wanted, &|_| {}).await.unwrap();
        }
    }
}
