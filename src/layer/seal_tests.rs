//! Tests of sealing: the determinism contract, and refusals.

use std::io::Read;
use std::sync::{Arc, LazyLock};

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

fn level(encoding: LayerEncoding, level: u32) -> Compression {
    Compression::new(encoding, Some(level)).unwrap()
}

/// The usual compressions, and levels whose blocks or jobs are cut in other ways.
fn compressions() -> [Compression; 7] {
    use LayerEncoding::{Gzip, Zstd};
    let zstd = [1, 3, 9].map(|of| level(Zstd, of));
    let gzip = [0, 1, 6].map(|of| level(Gzip, of));
    [Compression::NONE, gzip[0], gzip[1], gzip[2], zstd[0], zstd[1], zstd[2]]
}

/// Nobody ends the work.
static GO_ON: LazyLock<Halt> = LazyLock::new(Halt::default);

fn options(compression: Compression, pool: &Pool) -> Seal<'_> {
    Seal { clamp: None, compression, pool, halt: &GO_ON }
}

fn sealed(changes: &[Change], compression: Compression, workers: usize) -> (Sealed, Vec<u8>) {
    let pool = Pool::new(workers).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let destination = directory.path().join("blob");
    let sealed = seal(changes, &options(compression, &pool), &destination).unwrap();
    (sealed, std::fs::read(destination).unwrap())
}

#[test]
fn bytes_do_not_depend_on_the_number_of_workers() {
    let changes = [file("a", &noise(3 << 20)), file("b", &noise((5 << 20) + 77)), file("c", b"")];
    let diff_id = diff_id(&changes, None, &Halt::default()).unwrap();
    for compression in compressions() {
        let (want, bytes) = sealed(&changes, compression, 1);
        assert_eq!(want.digest, Digest::of(&bytes));
        assert_eq!(want.size, bytes.len() as u64);
        assert_eq!(want.diff_id, diff_id);
        for workers in [2, 3, 7, 64] {
            assert_eq!(
                sealed(&changes, compression, workers),
                (want, bytes.clone()),
                "{compression} {workers}"
            );
        }
        let found = verify_diff_id(io::Cursor::new(bytes), compression.encoding()).unwrap();
        assert_eq!(found, diff_id, "{compression}");
    }
}

#[test]
fn bytes_do_not_depend_on_the_size_of_writes() {
    let pool = Pool::new(2).unwrap();
    let plain = noise((2 << 20) + 12345);
    for compression in [Compression::DEFAULT, level(LayerEncoding::Zstd, 3)] {
        let directory = tempfile::tempdir().unwrap();
        let write = |piece: usize| {
            let source = Source::Tar(Box::new(Pieces { plain: io::Cursor::new(plain.clone()), piece }));
            let file = File::create(directory.path().join("blob")).unwrap();
            super::write(source, &options(compression, &pool), file).unwrap()
        };
        let want = write(plain.len());
        assert_eq!(want.diff_id, DiffId(Digest::of(&plain)));
        for piece in [1000, 4096, MEMBER - 1, MEMBER, MEMBER + 1] {
            assert_eq!(write(piece), want, "{compression} {piece}");
        }
    }
}

/// Gives its bytes in pieces of at most one size.
struct Pieces {
    plain: io::Cursor<Vec<u8>>,
    piece: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.piece);
        self.plain.read(&mut buffer[..most])
    }
}

/// A new encoder version changes these digests, on purpose: raise the version in the provenance
/// and the store's map of compressed blobs with them.
#[test]
fn golden_digests() {
    let small = [file("etc/os-release", b"ID=test\n")];
    let large = [small[0].clone(), file("data", &noise(5 << 20))];
    let changes = [small[0].clone(), file("data", &noise(2 << 20))];
    for (changes, compression, want) in [
        (&changes[..], "tar", "sha256:0f4da075e59812bf30d48cb278d5c04db9522781f6514f25554b691b09cf7e7c"),
        (&changes, "gzip-6", "sha256:129644f64ea1cfca4c983840a9939e3c0728624d0dbbdae1236b12d9d2d1bff3"),
        (&changes, "zstd-3", "sha256:800f3a759ee3afbdfdb3e3cd9272667170c5b8cd6995fe0fce6a5df372bea2b1"),
        (&small, "zstd-3", "sha256:0f2edbc60ec91b579063e43094ec566c1f8ea038415c926e8ccd1f0db8365b7f"),
        (&large, "zstd-3", "sha256:28579f6c9ec65c165bf3a4b0180c6aca4e506cdd8801d7ebeec0a0c0becc19a0"),
    ] {
        let found = sealed(changes, compression.parse().unwrap(), 2).0.digest.to_string();
        assert_eq!(found, want, "{compression}");
    }
}

#[test]
fn an_empty_layer_is_one_member_or_frame() {
    let (gzip, bytes) = sealed(&[], Compression::DEFAULT, 2);
    assert_eq!(gzip.uncompressed_size, 1024);
    // The diff id of two zero blocks, as every builder knows it.
    let want = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    assert_eq!(gzip.diff_id.to_string(), want);
    assert_eq!(diff_id(&[], None, &Halt::default()).unwrap(), gzip.diff_id);
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
    assert_eq!(plain, [0; 1024]);
    for compression in compressions() {
        assert_eq!(sealed(&[], compression, 2).0.diff_id, gzip.diff_id);
    }
}

#[test]
fn sizes_around_a_block_read_back() {
    for size in [MEMBER - 2048, MEMBER - 1536, MEMBER - 1024, MEMBER, 2 * MEMBER - 1536] {
        let changes = [file("f", &noise(size))];
        let want = diff_id(&changes, None, &Halt::default()).unwrap();
        for compression in compressions() {
            let (sealed, bytes) = sealed(&changes, compression, 2);
            assert_eq!(sealed.diff_id, want);
            let found = verify_diff_id(io::Cursor::new(bytes), compression.encoding()).unwrap();
            assert_eq!(found, want, "{compression} {size}");
        }
    }
}

#[test]
fn recompressing_keeps_the_diff_id_and_gives_the_bytes_of_sealing() {
    let pool = Pool::new(2).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let destination = directory.path().join("blob");
    for size in [5, MEMBER - 1536, MEMBER, 3 * MEMBER + 5] {
        let changes = [file("f", &noise(size))];
        for from in ["tar", "gzip-6", "zstd-3"].map(|name| name.parse::<Compression>().unwrap()) {
            let (_, blob) = sealed(&changes, from, 2);
            for to in compressions() {
                let (want, bytes) = sealed(&changes, to, 2);
                let cursor = io::Cursor::new(blob.clone());
                let found = recompress(cursor, from.encoding(), &options(to, &pool), &destination).unwrap();
                assert_eq!(found, want, "{from} to {to}, {size}");
                assert!(std::fs::read(&destination).unwrap() == bytes);
            }
        }
    }
    let cut = sealed(&[file("f", &noise(3000))], Compression::DEFAULT, 1).1[..900].to_vec();
    let cursor = io::Cursor::new(cut);
    let encoding = LayerEncoding::Gzip;
    assert!(
        recompress(cursor, encoding, &options(level(LayerEncoding::Zstd, 3), &pool), &destination).is_err()
    );
    assert!(!destination.exists());
}

#[test]
fn layers_share_a_pool_without_waiting_for_each_other_forever() {
    let pool = Pool::new(2).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let changes = [file("a", &noise(9 << 20))];
    for compression in [Compression::DEFAULT, level(LayerEncoding::Zstd, 3)] {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6)
                .map(|number| {
                    let destination = directory.path().join(number.to_string());
                    let options = options(compression, &pool);
                    let changes = &changes;
                    scope.spawn(move || seal(changes, &options, &destination).unwrap())
                })
                .collect();
            let digests: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap().digest).collect();
            assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
        });
    }
}

#[test]
fn times_are_bounded() {
    let pool = Pool::new(1).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut old = file("old", b"");
    old.entry.mtime = -5;
    for (clamp, want) in [(None, [1_000_000_000, -5]), (Some(7), [7, 0])] {
        let destination = directory.path().join("tar");
        let options = Seal { clamp, ..options(Compression::NONE, &pool) };
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
        for compression in compressions() {
            assert!(seal(&changes, &options(compression, &pool), &destination).is_err());
            assert!(!destination.exists());
        }
        assert!(diff_id(&changes, None, &Halt::default()).is_err());
    }
    assert_eq!(pool.take_seats(1).count(), 1);
    assert_eq!((0..100).filter(|_| pool.try_reserve()).count(), 4);
}

/// Content without an end in sight, which has the work halted after some bytes.
struct Endless {
    halt: Halt,
    left: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.left = self.left.saturating_sub(buffer.len());
        if self.left == 0 {
            self.halt.ask();
        }
        buffer.fill(1);
        Ok(buffer.len())
    }
}

#[test]
fn work_that_is_halted_ends_and_leaves_nothing() {
    let pool = Pool::new(2).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let destination = directory.path().join("blob");
    for compression in compressions() {
        let halt = Halt::default();
        let seal = Seal { halt: &halt, ..options(compression, &pool) };
        let tar = Source::Tar(Box::new(Endless { halt: halt.clone(), left: 5 << 20 }));
        let ended = create(tar, &seal, &destination);
        assert!(matches!(ended, Err(LayerError::Halted)), "{compression} {ended:?}");
        assert!(!destination.exists(), "{compression}");
    }
    let halt = Halt::default();
    halt.ask();
    let changes = [file("a", b"a")];
    let seals = Seal { halt: &halt, ..options(Compression::DEFAULT, &pool) };
    assert!(matches!(seal(&changes, &seals, &destination), Err(LayerError::Halted)));
    assert!(matches!(diff_id(&changes, None, &halt), Err(LayerError::Halted)));
    let ownership = crate::image::Ownership::Kernel;
    let written = crate::layer::write_directory(&changes, None, directory.path(), ownership, &halt);
    assert!(matches!(written, Err(LayerError::Halted)));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
