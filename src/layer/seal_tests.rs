//! Tests of sealing: the determinism contract, and refusals.

use std::io::Read;
use std::sync::Arc;

use super::*;
use crate::layer::content::Content;
use crate::layer::decode::verify_diff_id;
use crate::layer::path::LayerPath;

/// Bytes that compress somewhat and never repeat.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8 & 0x3f
    };
    (0..size).map(|_| next()).collect()
}

fn file(path: &str, content: &[u8]) -> Change {
    let kind = EntryKind::File { size: content.len() as u64 };
    let entry = Entry { mtime: 1_000_000_000, ..Entry::new(LayerPath::new(path).unwrap(), kind, 0o644) };
    Change { entry, content: Content::Bytes(Arc::from(content)) }
}

fn sealed(changes: &[Change], encoding: LayerEncoding, workers: usize) -> (Sealed, Vec<u8>) {
    let pool = Pool::new(workers).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let destination = directory.path().join("blob");
    let sealed = seal(changes, &Seal { clamp: None, encoding, pool: &pool }, &destination).unwrap();
    (sealed, std::fs::read(destination).unwrap())
}

#[test]
fn bytes_do_not_depend_on_the_number_of_workers() {
    let changes = [file("a", &noise(3 << 20)), file("b", &noise((5 << 20) + 77)), file("c", b"")];
    for encoding in [LayerEncoding::Tar, LayerEncoding::Gzip, LayerEncoding::Zstd] {
        let (want, bytes) = sealed(&changes, encoding, 1);
        assert_eq!(want.digest, Digest::of(&bytes));
        assert_eq!(want.size, bytes.len() as u64);
        for workers in [2, 3, 7, 64] {
            assert_eq!(sealed(&changes, encoding, workers), (want, bytes.clone()), "{encoding:?} {workers}");
        }
        assert_eq!(verify_diff_id(io::Cursor::new(bytes), encoding).unwrap(), want.diff_id);
    }
}

#[test]
fn bytes_do_not_depend_on_the_size_of_writes() {
    let pool = Pool::new(2).unwrap();
    let plain = noise((2 << 20) + 12345);
    let write = |piece: usize| {
        let mut writer = GzipWriter::new(&pool, HashingWriter::new(Vec::new()));
        plain.chunks(piece).for_each(|piece| writer.write_all(piece).unwrap());
        writer.finish().unwrap()
    };
    let want = write(plain.len());
    assert_eq!(want.diff_id, DiffId(Digest::of(&plain)));
    for piece in [1000, 4096, MEMBER - 1, MEMBER, MEMBER + 1] {
        assert_eq!(write(piece), want, "{piece}");
    }
}

/// A new encoder version changes these digests, on purpose: raise the version in the provenance
/// and the store's map of compressed blobs with them.
#[test]
fn golden_digests() {
    let changes = [file("etc/os-release", b"ID=test\n"), file("data", &noise(2 << 20))];
    let digests = [LayerEncoding::Tar, LayerEncoding::Gzip, LayerEncoding::Zstd]
        .map(|encoding| sealed(&changes, encoding, 2).0.digest.to_string());
    let want = [
        "sha256:0f4da075e59812bf30d48cb278d5c04db9522781f6514f25554b691b09cf7e7c",
        "sha256:129644f64ea1cfca4c983840a9939e3c0728624d0dbbdae1236b12d9d2d1bff3",
        "sha256:800f3a759ee3afbdfdb3e3cd9272667170c5b8cd6995fe0fce6a5df372bea2b1",
    ];
    assert_eq!(digests, want);
}

#[test]
fn an_empty_layer_is_one_member_or_frame() {
    let (gzip, bytes) = sealed(&[], LayerEncoding::Gzip, 2);
    assert_eq!(gzip.uncompressed_size, 1024);
    // The diff id of two zero blocks, as every builder knows it.
    let want = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    assert_eq!(gzip.diff_id.to_string(), want);
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
    assert_eq!(plain, [0; 1024]);
    assert_eq!(sealed(&[], LayerEncoding::Zstd, 2).0.diff_id, gzip.diff_id);
}

#[test]
fn layers_share_a_pool_without_waiting_for_each_other_forever() {
    let pool = Pool::new(2).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let changes = [file("a", &noise(9 << 20))];
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|number| {
                let destination = directory.path().join(number.to_string());
                let options = Seal { clamp: None, encoding: LayerEncoding::Gzip, pool: &pool };
                let changes = &changes;
                scope.spawn(move || seal(changes, &options, &destination).unwrap())
            })
            .collect();
        let digests: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap().digest).collect();
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
    });
}

#[test]
fn times_are_bounded() {
    let pool = Pool::new(1).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut old = file("old", b"");
    old.entry.mtime = -5;
    for (clamp, want) in [(None, [1_000_000_000, -5]), (Some(7), [7, 0])] {
        let destination = directory.path().join("tar");
        let options = Seal { clamp, encoding: LayerEncoding::Tar, pool: &pool };
        seal(&[file("new", b""), old.clone()], &options, &destination).unwrap();
        let mut times = Vec::new();
        let tar = File::open(destination).unwrap();
        crate::layer::read_tar(tar, crate::layer::Mode::Layer, &mut |entry, _| {
            times.push(entry.mtime);
            Ok(())
        })
        .unwrap();
        assert_eq!(times, want);
    }
}

#[test]
fn refusals_leave_no_file_and_no_room_taken() {
    let pool = Pool::new(1).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let destination = directory.path().join("blob");
    let link = |path: &str, target: &str| {
        let kind = EntryKind::HardLink { target: LayerPath::new(target).unwrap() };
        Change::bare(Entry::new(LayerPath::new(path).unwrap(), kind, 0o644))
    };
    let mut shrunk = file("z", b"abc");
    shrunk.entry.kind = EntryKind::File { size: 4 };
    for changes in [
        vec![file("a", b""), file("a", b"")],
        vec![link("b", "a")],
        vec![link("a", "b"), file("b", b"")],
        vec![file("a", &noise(6 << 20)), shrunk],
    ] {
        for encoding in [LayerEncoding::Tar, LayerEncoding::Gzip, LayerEncoding::Zstd] {
            assert!(seal(&changes, &Seal { clamp: None, encoding, pool: &pool }, &destination).is_err());
            assert!(!destination.exists());
        }
    }
    assert_eq!((0..100).filter(|_| pool.try_reserve()).count(), 4);
}
