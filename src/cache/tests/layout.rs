//! Records in OCI layouts.

use std::fs;

use serde_json::{Value, json};

use super::super::{CacheError, Exported};
use super::{Machine, entry, is_of, keys, layer};
use crate::image::{Digest, Origin};

fn to(directory: &std::path::Path) -> String {
    format!("type=local,dest={},ignore-error=false", directory.display())
}

fn from(directory: &std::path::Path) -> String {
    format!("type=local,src={}", directory.display())
}

fn index(directory: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(directory.join("index.json")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_machine_writes_another_finds() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("c");
    let first = Machine::with(&["a", "b"]);
    let entries = [entry("a"), entry("b")];
    let exported = first.export(&to(&place), &entries).await.unwrap();
    assert_eq!(exported, Exported { written: 2, sent: 2, ..Exported::default() });
    assert_eq!(fs::read(place.join("oci-layout")).unwrap(), br#"{"imageLayoutVersion":"1.0.0"}"#);
    assert_eq!(index(&place)["manifests"].as_array().unwrap().len(), 4);
    assert!(
        fs::read_dir(&place)
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().ends_with(".tmp") })
    );
    let exported = first.export(&to(&place), &entries).await.unwrap();
    assert_eq!(exported, Exported { known: 2, ..Exported::default() });

    let second = Machine::new();
    let found = second.imports(&[&from(&place)]).look_up(&keys(&["a", "b", "c"])).await;
    assert_eq!(found.len(), 4);
    for name in ["a", "b"] {
        assert!(is_of(&found[&keys(&[name])[0]], name));
        assert_eq!(found[&keys(&[name])[0]][0].origin, Origin::Layout(place.clone()));
    }
    // From one layout into another, past the store.
    let other = dir.path().join("d");
    let mut moved = entry("a");
    moved.origin = Some(Origin::Layout(place.clone()));
    let exported = second.export(&to(&other), &[moved]).await.unwrap();
    assert_eq!(exported, Exported { written: 1, sent: 1, ..Exported::default() });
    let blob = entry("a").blob.descriptor.digest.hex();
    assert_eq!(fs::read(other.join("blobs/sha256").join(blob)).unwrap(), layer("a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_not_there_is_no_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::new();
    let place = dir.path().join("none");
    assert!(machine.imports(&[&from(&place)]).look_up(&keys(&["a"])).await.is_empty());
    assert!(machine.warnings().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_the_same_time_and_others_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_owned();
    fs::create_dir_all(place.join("blobs/sha256")).unwrap();
    fs::write(place.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let foreign = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": Digest::of(b"foreign"),
        "size": 7,
        "annotations": {"org.opencontainers.image.ref.name": keys(&["a"])[0].hex()},
    });
    let before = json!({"schemaVersion": 2, "manifests": [foreign], "annotations": {"x": "y"}});
    fs::write(place.join("index.json"), before.to_string()).unwrap();
    let names: Vec<String> = (0..24).map(|number| format!("step {number}")).collect();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (names, place) = (&names, &place);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let mine: Vec<&str> = (0..9).map(|at| names[(number * 6 + at) % 24].as_str()).collect();
                    let machine = Machine::with(&mine);
                    for name in mine {
                        machine.export(&to(place), &[entry(name)]).await.unwrap();
                    }
                });
            });
        }
    });
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let machine = Machine::new();
    let found = machine.imports(&[&from(&place)]).look_up(&keys(&names)).await;
    assert_eq!(found.len(), 48);
    assert_eq!(machine.warnings(), Vec::<String>::new());
    let index = index(&place);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 49);
    assert_eq!((&index["manifests"][0], &index["annotations"]), (&foreign, &json!({"x": "y"})));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_a_miss_and_never_overwritten_blindly() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_owned();
    let machine = Machine::with(&["a", "b"]);
    machine.export(&to(&place), &[entry("a"), entry("b")]).await.unwrap();
    // A record whose manifest was cut.
    let entries = index(&place);
    let of_a = entries["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|found| found["annotations"]["org.opencontainers.image.ref.name"] == keys(&["a"])[0].hex());
    let digest: Digest = of_a.unwrap()["digest"].as_str().unwrap().parse().unwrap();
    fs::write(place.join("blobs/sha256").join(digest.hex()), b"{").unwrap();
    let found = machine.imports(&[&from(&place)]).look_up(&keys(&["a", "b"])).await;
    assert_eq!(found.len(), 2);
    assert!(is_of(&found[&keys(&["b"])[0]], "b"));
    // It is made good again, also where its layer is gone.
    fs::remove_file(place.join("blobs/sha256").join(entry("a").blob.descriptor.digest.hex())).unwrap();
    let exported = machine.export(&to(&place), &[entry("a"), entry("b")]).await.unwrap();
    assert_eq!(exported, Exported { written: 1, known: 1, sent: 1, ..Exported::default() });
    assert_eq!(machine.imports(&[&from(&place)]).look_up(&keys(&["a", "b"])).await.len(), 4);

    // A damaged index is a warning to readers, and an error to writers.
    fs::write(place.join("index.json"), b"{\"manifests\":").unwrap();
    assert!(machine.imports(&[&from(&place)]).look_up(&keys(&["a"])).await.is_empty());
    assert!(machine.export(&to(&place), &[entry("a")]).await.is_err());
    assert_eq!(fs::read(place.join("index.json")).unwrap(), b"{\"manifests\":");
    let lenient = format!("type=local,dest={}", place.display());
    assert_eq!(machine.export(&lenient, &[entry("a")]).await.unwrap(), Exported::default());
    assert_eq!(machine.warnings().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_layers_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_owned();
    let blob = |name: &str| place.join("blobs/sha256").join(entry(name).blob.descriptor.digest.hex());
    let names = ["a", "b", "c", "d", "e"];
    let entries: Vec<_> = names.iter().map(|name| entry(name)).collect();
    Machine::with(&names).export(&to(&place), &entries).await.unwrap();
    let spoil = |name: &str| {
        let mut bytes = layer(name);
        bytes[0] ^= 1;
        fs::write(blob(name), bytes).unwrap();
    };
    // Of the right size, cut, a link to the right content.
    spoil("a");
    fs::write(blob("b"), b"").unwrap();
    fs::rename(blob("c"), place.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(place.join("elsewhere"), blob("c")).unwrap();
    // `d` was found in this very folder: nobody else has its layer.
    spoil("d");
    let mut again = entries.clone();
    again[3].origin = Some(Origin::Layout(place.clone()));
    let before = index(&place);
    let machine = Machine::with(&["a", "b", "c", "e"]);
    let exported = machine.export(&to(&place), &again).await.unwrap();
    assert_eq!(exported, Exported { known: 4, sent: 3, lost: 1, ..Exported::default() });
    for name in ["a", "b", "c", "e"] {
        assert!(fs::symlink_metadata(blob(name)).unwrap().is_file(), "{name}");
        assert_eq!(fs::read(blob(name)).unwrap(), layer(name));
    }
    assert_eq!(index(&place), before);
    let warnings = machine.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("1 results in the cache"), "{warnings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_not_spread() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::with(&["a", "b"]);
    let blob = entry("a").blob.descriptor;
    let mut bytes = layer("a");
    bytes[0] ^= 1;
    fs::write(machine.store.blob_path(&blob.digest), bytes).unwrap();
    let error = machine.export(&to(dir.path()), &[entry("a"), entry("b")]).await.unwrap_err();
    assert!(matches!(error, CacheError::Damaged(digest) if digest == blob.digest), "{error}");
    assert!(!machine.store.has_blob(&blob));
    let found = machine.imports(&[&from(dir.path())]).look_up(&keys(&["a", "b"])).await;
    assert_eq!(found.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_entries_are_read_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    let machine = Machine::with(&["a"]);
    machine.export(&to(place), &[entry("a")]).await.unwrap();
    let mut large = index(place);
    let entries = large["manifests"].as_array_mut().unwrap();
    let model = entries[0].clone();
    for number in 0..20_000_u32 {
        let mut other = model.clone();
        let name = Digest::of(&number.to_le_bytes()).hex();
        other["annotations"]["org.opencontainers.image.ref.name"] = json!(name);
        entries.push(other);
    }
    fs::write(place.join("index.json"), large.to_string()).unwrap();
    let machine = Machine::with(&["b"]);
    machine.export(&to(place), &[entry("b")]).await.unwrap();
    assert_eq!(index(place)["manifests"].as_array().unwrap().len(), 20_004);
    assert_eq!(machine.imports(&[&from(place)]).look_up(&keys(&["a", "b"])).await.len(), 4);
}
