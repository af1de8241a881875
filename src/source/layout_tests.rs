use std::os::unix::fs::symlink;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::image::media_type::OCI_MANIFEST;

/// The layer of every manifest here.
const BLOB: &[u8] = b"layer";

/// A layout made by hand.
struct Made {
    directory: TempDir,
}

/// A manifest with so many blanks after it, to have several.
fn manifest(blanks: usize) -> Vec<u8> {
    let blob = Descriptor::of("application/vnd.oci.image.layer.v1.tar", BLOB);
    let config = Descriptor::of("application/vnd.oci.image.config.v1+json", b"{}");
    let pad = " ".repeat(blanks);
    format!("{}{pad}", json!({ "schemaVersion": 2, "config": config, "layers": [blob] })).into_bytes()
}

fn entry(bytes: &[u8], names: &[(&str, &str)]) -> serde_json::Value {
    let annotations = names.iter().map(|(key, name)| ((*key).to_owned(), (*name).to_owned())).collect();
    json!(Descriptor::of(OCI_MANIFEST, bytes).with_annotations(annotations))
}

impl Made {
    fn new(entries: &[serde_json::Value]) -> Self {
        let made = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(made.path("blobs/sha256")).unwrap();
        made.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        let index = json!({ "schemaVersion": 2, "manifests": entries });
        made.write("index.json", index.to_string().as_bytes());
        for bytes in [&manifest(0)[..], &manifest(1), BLOB] {
            made.write(&blob_name(&Digest::of(bytes)), bytes);
        }
        made
    }

    /// Two images with tags of their own.
    fn two() -> Self {
        let first = entry(&manifest(0), &[(REF_NAME, "v1"), (CONTAINERD_NAME, "docker.io/library/a:v1")]);
        let second = entry(&manifest(1), &[(REF_NAME, "latest")]);
        Self::new(&[first, second])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn open(&self) -> Layout {
        Layout::open(self.directory.path()).unwrap()
    }

    fn refusal(&self) -> String {
        Layout::open(self.directory.path()).unwrap_err().to_string()
    }

    /// The same layout as a tar file.
    fn tar(&self) -> PathBuf {
        let mut builder = tar::Builder::new(File::create(self.path("out.tar")).unwrap());
        for name in ["blobs", "oci-layout", "index.json"] {
            let path = self.path(name);
            if path.is_dir() {
                builder.append_dir_all(name, path).unwrap();
            } else {
                builder.append_path_with_name(path, format!("./{name}")).unwrap();
            }
        }
        builder.finish().unwrap();
        self.path("out.tar")
    }
}

fn tag(text: &str) -> Selector {
    Selector::Tag(text.to_owned())
}

#[test]
fn images_are_found_by_tag_and_digest() {
    let made = Made::two();
    for layout in [made.open(), Layout::open(&made.tar()).unwrap()] {
        for (selector, want) in [
            (tag("v1"), 0),
            (tag("latest"), 1),
            (tag("docker.io/library/a:v1"), 0),
            (Selector::Any, 1),
            (Selector::Digest(Digest::of(&manifest(0))), 0),
        ] {
            let found = layout.resolve(&selector).unwrap();
            assert_eq!(found.digest, Digest::of(&manifest(want)), "{selector:?}");
            assert_eq!(layout.manifest(&found).unwrap().bytes, manifest(want));
        }
        let error = layout.resolve(&tag("v2")).unwrap_err().to_string();
        assert!(
            error.contains("no image `v2` (did you mean `v1`?); it has: docker.io/library/a:v1, latest"),
            "{error}"
        );
        let error = layout.resolve(&Selector::Digest(Digest::of(b"x"))).unwrap_err().to_string();
        assert!(error.contains("it has no image sha256:"), "{error}");
    }
}

#[test]
fn the_only_image_needs_no_name() {
    for entries in [
        vec![entry(&manifest(0), &[])],
        vec![entry(&manifest(0), &[(REF_NAME, "a")]), entry(&manifest(0), &[(REF_NAME, "b")])],
    ] {
        let found = Made::new(&entries).open().resolve(&Selector::Any).unwrap();
        assert_eq!(found.digest, Digest::of(&manifest(0)));
    }
    let error = Made::new(&[]).open().resolve(&Selector::Any).unwrap_err().to_string();
    assert!(error.ends_with("it holds no image"), "{error}");
    let two = [entry(&manifest(0), &[(REF_NAME, "a\u{1b}")]), entry(&manifest(1), &[(REF_NAME, "b")])];
    let error = Made::new(&two).open().resolve(&Selector::Any).unwrap_err().to_string();
    assert!(error.contains("it holds 2 images") && error.contains("it has: a\\u{1b}, b"), "{error}");
}

#[test]
fn one_tag_for_two_images_is_ambiguous() {
    let made = Made::new(&[
        entry(&manifest(0), &[(REF_NAME, "1"), (CONTAINERD_NAME, "docker.io/library/a:1")]),
        entry(&manifest(1), &[(REF_NAME, "1"), (CONTAINERD_NAME, "docker.io/library/b:1")]),
    ]);
    let error = made.open().resolve(&tag("1")).unwrap_err().to_string();
    assert!(error.contains("more than one image is `1`"), "{error}");
    let found = made.open().resolve(&tag("docker.io/library/b:1")).unwrap();
    assert_eq!(found.digest, Digest::of(&manifest(1)));
}

#[test]
fn digests_reach_what_the_index_does_not_name() {
    let made = Made::new(&[entry(&manifest(0), &[])]);
    let digest = Digest::of(&manifest(1));
    let found = made.open().resolve(&Selector::Digest(digest)).unwrap();
    assert_eq!((found.digest, found.media_type.as_str()), (digest, OCI_MANIFEST));
    let error = made.open().resolve(&Selector::Digest(Digest::of(BLOB))).unwrap_err().to_string();
    assert!(error.contains("neither a manifest nor an index"), "{error}");
    made.write(&blob_name(&digest), &manifest(2));
    let error = made.open().resolve(&Selector::Digest(digest)).unwrap_err().to_string();
    assert!(error.contains("is damaged"), "{error}");
}

#[test]
fn blobs_are_verified() {
    let made = Made::two();
    let place = blob_name(&Digest::of(BLOB));
    let good = Descriptor::of("x/y", BLOB);
    for layout in [made.open(), Layout::open(&made.tar()).unwrap()] {
        let to = made.path("copy");
        layout.copy_blob(&good, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), BLOB);
        assert_eq!(layout.read(&good, 5).unwrap(), BLOB);
        assert!(layout.read(&good, 4).is_err());
        for (size, why) in [(4, "more than 4 bytes"), (6, "only 5 of 6 bytes")] {
            let error = layout.copy_blob(&Descriptor { size, ..good.clone() }, &to).unwrap_err().to_string();
            assert!(error.contains(why) && !to.exists(), "{error}");
        }
        let error = layout.read(&Descriptor::of("x/y", b"other"), 99).unwrap_err().to_string();
        assert!(error.contains("it has no file"), "{error}");
    }
    for (bytes, why) in [
        (&b"lay"[..], "only 3 of 5 bytes"),
        (b"laYer", "its content has the digest sha256:"),
        (b"layers", "more than 5 bytes"),
        (b"", "only 0 of 5 bytes"),
    ] {
        made.write(&place, bytes);
        for layout in [made.open(), Layout::open(&made.tar()).unwrap()] {
            let error = layout.copy_blob(&good, &made.path("copy")).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert!(!made.path("copy").exists());
        }
    }
    // By a link: what could not be written is removed.
    symlink("/dev/full", made.path("full")).unwrap();
    let error = made.open().copy_blob(&Descriptor::of("x/y", &manifest(0)), &made.path("full")).unwrap_err();
    let full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
    assert!(matches!(&error, SourceError::Io { source, .. } if full(source)), "{error}");
}

#[test]
fn links_are_not_followed() {
    let made = Made::two();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("f"), BLOB).unwrap();
    let place = made.path(&blob_name(&Digest::of(BLOB)));
    for target in [outside.path().join("f"), PathBuf::from("../../index.json")] {
        fs::remove_file(&place).unwrap();
        symlink(&target, &place).unwrap();
        let error = made.open().read(&Descriptor::of("x/y", BLOB), 99).unwrap_err().to_string();
        assert!(error.contains("is a link, which is not followed"), "{error}");
    }
    fs::remove_file(&place).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &place, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(made.open().read(&Descriptor::of("x/y", BLOB), 99).is_err());
    fs::rename(made.path("blobs"), outside.path().join("blobs")).unwrap();
    symlink(outside.path().join("blobs"), made.path("blobs")).unwrap();
    assert!(made.open().manifest(&Descriptor::of(OCI_MANIFEST, &manifest(0))).is_err());
    fs::rename(made.path("index.json"), outside.path().join("index.json")).unwrap();
    symlink(outside.path().join("index.json"), made.path("index.json")).unwrap();
    assert!(made.refusal().contains("is a link"));
}

#[test]
fn what_is_no_layout_is_refused() {
    let made = Made::two();
    for (name, bytes, why) in [
        (
            "index.json",
            br#"{"schemaVersion":2,"manifests":[{"mediaType":"a","size":1,"digest":"sha256:../../x"}]}"#
                .to_vec(),
            "index.json",
        ),
        ("index.json", br#"{"manifests":[],"layers":[]}"#.to_vec(), "both"),
        ("index.json", manifest(0), "no index"),
        ("index.json", b"[".to_vec(), "not usable"),
        ("index.json", vec![b' '; (64 << 20) + 1], "more than"),
        ("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#.to_vec(), "version 2.0.0"),
        ("oci-layout", b"{}".to_vec(), "oci-layout"),
        ("oci-layout", vec![b' '; 5 << 10], "more than"),
    ] {
        let old = fs::read(made.path(name)).unwrap();
        made.write(name, &bytes);
        let error = made.refusal();
        assert!(error.contains(why), "{error}");
        made.write(name, &old);
    }
    fs::remove_file(made.path("oci-layout")).unwrap();
    assert!(made.refusal().contains("it has no file `oci-layout`"));
    made.write("junk", b"no tar");
    let error = Layout::open(&made.path("junk")).unwrap_err().to_string();
    assert!(error.contains("neither a directory nor an uncompressed tar"), "{error}");
    assert!(Layout::open(&made.path("nothing")).is_err());
    assert!(Layout::open(Path::new("/dev/null")).is_err());
}

#[test]
fn selectors() {
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join("with:colon@sign");
    fs::create_dir(&odd).unwrap();
    let odd = odd.to_str().unwrap();
    let digest = Digest::of(b"x");
    let by_digest = format!("dir/a@{digest}");
    let odd_tag = format!("{odd}:v1");
    for (text, path, selector) in [
        ("dir/a", "dir/a", Selector::Any),
        ("dir/a:v1", "dir/a", tag("v1")),
        ("./di:r/a", "./di:r/a", Selector::Any),
        ("a:b:c", "a:b", tag("c")),
        (&by_digest, "dir/a", Selector::Digest(digest)),
        (odd, odd, Selector::Any),
        (&odd_tag, odd, tag("v1")),
    ] {
        assert_eq!(Selector::split(text).unwrap(), (PathBuf::from(path), selector), "{text}");
    }
    for text in ["", ":v1", "a:", "a@sha256:12", "a@v1"] {
        assert!(Selector::split(text).is_err(), "{text}");
    }
}
