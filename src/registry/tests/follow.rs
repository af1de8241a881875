use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use super::super::fake::{Access, Act, When};
use super::super::{Arrival, Follow, Follower};
use super::{Bench, content, descriptor};

/// Reads along until the end; returns what was read at last, and how often it began anew.
fn read_along(mut follower: Follower, path: PathBuf) -> (Arrival, Vec<u8>, usize) {
    let (mut bytes, mut restarts, mut file) = (Vec::new(), 0, None);
    loop {
        match follower.wait_beyond(bytes.len() as u64) {
            Arrival::Bytes(there) => {
                let file = file.get_or_insert_with(|| File::open(&path).unwrap());
                let missing = there - bytes.len() as u64;
                file.take(missing).read_to_end(&mut bytes).unwrap();
            }
            Arrival::Restarted => {
                restarts += 1;
                bytes.clear();
                file = None;
            }
            end => return (end, bytes, restarts),
        }
    }
}

async fn follow(bench: &Bench, bytes: &[u8]) -> (bool, Arrival, Vec<u8>, usize) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blob");
    let follow = Follow::new();
    let follower = follow.follower();
    let reader = tokio::task::spawn_blocking({
        let path = path.clone();
        move || read_along(follower, path)
    });
    let repository = bench.repository("a/b");
    let pulled = bench.client.pull_followed(&repository, &descriptor(bytes), &path, &follow, &|_| {}).await;
    let (end, read, restarts) = reader.await.unwrap();
    assert_eq!((pulled.is_ok(), path.exists()), (end == Arrival::Done, end == Arrival::Done));
    (pulled.is_ok(), end, read, restarts)
}

#[tokio::test]
async fn bytes_are_read_while_they_arrive() {
    for length in [0, 1, 3_000_000] {
        let bytes = content(length);
        let bench = Bench::new(Access::Open).await;
        bench.fake.add_blob("a/b", &bytes);
        if length > 1 {
            bench.fake.rule("GET", "/blobs/", When::First(2), Act::Truncate(120_000));
        }
        let (_, end, read, restarts) = follow(&bench, &bytes).await;
        assert!(read == bytes);
        assert_eq!((end, restarts), (Arrival::Done, 0), "what is resumed goes on");
    }
}

#[tokio::test]
async fn restarts_are_told() {
    let bytes = content(500_000);
    let bench = Bench::new(Access::Open).await;
    bench.fake.add_blob("a/b", &bytes);
    // One that cannot resume, and then wrong content.
    bench.fake.rule("GET", "/blobs/", When::First(1), Act::Truncate(1000));
    bench.fake.rule("GET", "/blobs/", When::First(1), Act::Answer(416, Vec::new(), String::new()));
    bench.fake.rule("GET", "/blobs/", When::First(1), Act::Spoil);
    let (_, end, read, restarts) = follow(&bench, &bytes).await;
    assert!(read == bytes);
    assert_eq!(end, Arrival::Done);
    // Two that follow closely may be told as one.
    assert!((1..=2).contains(&restarts), "{restarts}");
}

#[tokio::test]
async fn failures_are_told() {
    let bytes = content(500_000);
    for act in [Act::Answer(403, Vec::new(), String::new()), Act::Spoil] {
        let bench = Bench::new(Access::Open).await;
        bench.fake.add_blob("a/b", &bytes);
        bench.fake.rule("GET", "/blobs/", When::Always, act);
        let (pulled, end, ..) = follow(&bench, &bytes).await;
        assert_eq!((pulled, end), (false, Arrival::Failed));
    }
    // A pull that is given up.
    let bench = Bench::new(Access::Open).await;
    let (told, directory) = (Follow::new(), tempfile::tempdir().unwrap());
    let (repository, wanted, path) =
        (bench.repository("a/b"), descriptor(&bytes), directory.path().join("blob"));
    drop(bench.client.pull_followed(&repository, &wanted, &path, &told, &|_| {}));
    bench.fake.rule("GET", "/blobs/", When::Always, Act::Hang);
    let pull = bench.client.pull_followed(&repository, &wanted, &path, &told, &|_| {});
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(50), pull).await;
    assert!(given_up.is_err());
    assert_eq!(told.follower().wait_beyond(0), Arrival::Failed);
}
