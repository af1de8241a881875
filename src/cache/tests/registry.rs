//! Records in a registry.

use fanfold_platforms::Platform;

use super::super::codec::encode;
use super::super::inline::{self, INLINE_KEY};
use super::super::place::tag;
use super::super::{CacheError, Exported};
use super::{Machine, entry, is_of, keys, layer};
use crate::image::media_type::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use crate::image::{Descriptor, ImageConfig, ImageManifest, Index, Origin, RawManifest};
use crate::registry::fake::{Access, Act, Fake, When};

fn cache(fake: &Fake, rest: &str) -> String {
    format!("{}/app:{rest}", fake.address)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_machine_writes_another_finds() {
    let fake = Fake::start(Access::Open).await;
    let name = cache(&fake, "main");
    let to = format!("type=registry,ref={name},ignore-error=false");
    let first = Machine::with(&["a", "b"]);
    let exported = first.export(&to, &[entry("a"), entry("b")]).await.unwrap();
    assert_eq!(exported, Exported { written: 2, sent: 2, ..Exported::default() });
    assert_eq!(fake.blob("app", &layer("a")), Some(layer("a")));
    assert_eq!(
        fake.manifest("app", &tag("main", &keys(&["a"])[0])),
        Some(encode(&entry("a")).unwrap().bytes)
    );
    assert!(fake.count("GET", "/referrers/") == 0);

    let second = Machine::new();
    let imports = second.imports(&[&name]);
    let before = fake.count("", "/app/");
    let found = imports.look_up(&keys(&["a", "b", "c"])).await;
    assert_eq!(found.len(), 4);
    for name in ["a", "b"] {
        for key in keys(&[name]) {
            assert!(is_of(&found[&key], name), "{name}");
            assert!(matches!(&found[&key][0].origin, Origin::Registry(at) if at.path() == "app"));
        }
    }
    // One request for each key, and one for the image.
    assert_eq!(fake.count("", "/app/") - before, 7);
    assert_eq!(fake.count("GET", "/blobs/"), 0);
    assert_eq!(second.told(), [format!("note: found 4 of 6 results in the cache {name}")]);

    // The store of the second machine is empty: the layer is where it is.
    let mut again = entry("a");
    again.origin = Some(found[&keys(&["a"])[0]][0].origin.clone());
    again.record.created += 1;
    let second = Machine::new();
    let exported = second.export(&to, &[again]).await.unwrap();
    assert_eq!(exported, Exported { known: 1, ..Exported::default() });
    assert_eq!(second.told(), [format!("note: wrote 0 results into the cache {name}, 1 were there already")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_the_same_time_lose_nothing() {
    let fake = Fake::start(Access::Open).await;
    let name = cache(&fake, "main");
    let to = format!("type=registry,ref={name},ignore-error=false");
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let machines: Vec<Machine> = (0..4).map(|_| Machine::with(&names)).collect();
    let exports = machines.iter().enumerate().map(|(number, machine)| {
        // Each has results of its own, and one in common with the next.
        let entries: Vec<_> = (0..3).map(|step| entry(names[(2 * number + step) % 8])).collect();
        let to = &to;
        async move { machine.export(to, &entries).await.unwrap() }
    });
    futures::future::join_all(exports).await;
    let found = Machine::new().imports(&[&name]).look_up(&keys(&names)).await;
    assert_eq!(found.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_come_from_where_they_are() {
    let fake = Fake::start(Access::Open).await;
    fake.add_blob("image", &layer("a"));
    let machine = Machine::new();
    let mut with_origin = entry("a");
    let image = format!("{}/image", fake.address);
    let repository = image.parse::<crate::image::Reference>().unwrap().repository().clone();
    with_origin.origin = Some(Origin::Registry(repository));
    let to = format!("type=registry,ref={},ignore-error=false", cache(&fake, "main"));
    let exported = machine.export(&to, &[with_origin, entry("b")]).await;
    // The layer of `b` is nowhere; `a` is written all the same.
    assert!(matches!(exported, Err(CacheError::Missing(_))), "{exported:?}");
    assert_eq!(fake.blob("app", &layer("a")), Some(layer("a")));
    let found = machine.imports(&[&cache(&fake, "main")]).look_up(&keys(&["a", "b"])).await;
    assert_eq!(found.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_a_registry_lost_are_brought_again() {
    let fake = Fake::start(Access::Open).await;
    let name = cache(&fake, "main");
    let to = format!("type=registry,ref={name},ignore-error=false");
    let entries = [entry("a"), entry("b"), entry("c")];
    Machine::with(&["a", "b", "c"]).export(&to, &entries).await.unwrap();
    fake.lose_blob("app", &layer("a"));
    fake.lose_blob("app", &layer("b"));
    let (puts, heads) = (fake.count("PUT", "/manifests/"), fake.count("HEAD", "/blobs/"));
    // This machine found `b` in the cache itself: nobody has its layer any more.
    let machine = Machine::with(&["a"]);
    let mut entries = entries;
    entries[1].origin =
        Some(Origin::Registry(name.parse::<crate::image::Reference>().unwrap().repository().clone()));
    let exported = machine.export(&to, &entries).await.unwrap();
    assert_eq!(exported, Exported { known: 2, sent: 1, lost: 1, ..Exported::default() });
    assert_eq!(fake.blob("app", &layer("a")), Some(layer("a")));
    assert_eq!(fake.count("PUT", "/manifests/"), puts);
    // One question for each layer, and one more before it is brought.
    assert_eq!(fake.count("HEAD", "/blobs/") - heads, 5);
    let told = machine.told();
    assert!(told[0].starts_with("warning: 1 results in the cache"), "{told:?}");
    assert!(told[1].ends_with("2 were there already; layers: 1 sent"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_foreign_records_are_misses_with_one_warning() {
    let fake = Fake::start(Access::Open).await;
    let name = cache(&fake, "main");
    let place = |of: &str| tag("main", &keys(&[of])[0]);
    let good = encode(&entry("good")).unwrap();
    fake.add_manifest("app", &place("good"), OCI_MANIFEST, &good.bytes);
    fake.add_manifest("app", &place("other"), OCI_MANIFEST, &good.bytes);
    fake.add_manifest("app", &place("cut"), OCI_MANIFEST, &good.bytes[..good.bytes.len() / 2]);
    fake.add_manifest("app", &place("html"), "text/html", b"<html>\x1b[2J");
    let image = ImageManifest::new(Descriptor::of(OCI_CONFIG, b"{}"), Vec::new(), Default::default());
    fake.add_manifest("app", &place("image"), OCI_MANIFEST, &RawManifest::from_image(&image).bytes);
    fake.add_manifest("app", &place("large"), OCI_MANIFEST, " ".repeat(70_000).as_bytes());
    let machine = Machine::with(&["other"]);
    let names = ["good", "other", "cut", "html", "image", "large"];
    let found = machine.imports(&[&name]).look_up(&keys(&names)).await;
    assert_eq!(found.len(), 1);
    assert!(is_of(&found[&keys(&["good"])[0]], "good"));
    // The next export puts the right record in the place of the wrong one.
    machine.export(&name, &[entry("other")]).await.unwrap();
    let found = machine.imports(&[&name]).look_up(&keys(&["other"])).await;
    assert_eq!(found.len(), 2);
    let warnings = machine.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("is not used") && !warnings[0].contains('\u{1b}'), "{warnings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_is_given_up() {
    let fake = Fake::start(Access::Open).await;
    fake.rule("", "/v2/", When::Always, Act::Answer(503, Vec::new(), String::new()));
    let other = Fake::start(Access::Open).await;
    other.add_manifest(
        "app",
        &tag("cache", &keys(&["a"])[0]),
        OCI_MANIFEST,
        &encode(&entry("a")).unwrap().bytes,
    );
    let machine = Machine::with(&["a"]);
    let (down, up) = (cache(&fake, "main"), format!("{}/app", other.address));
    let imports = machine.imports(&[&down, &up]);
    let found = imports.look_up(&keys(&["a", "b", "c"])).await;
    assert!(is_of(&found[&keys(&["a"])[0]], "a"));
    let asked = fake.count("", "/v2/");
    assert_eq!(imports.look_up(&keys(&["a"])).await.len(), 1);
    assert_eq!(fake.count("", "/v2/"), asked);

    // Writing is a warning, too, unless it was said to matter.
    assert_eq!(machine.export(&down, &[entry("a")]).await.unwrap(), Exported::default());
    let to = format!("type=registry,ref={down},ignore-error=false");
    let error = machine.export(&to, &[entry("a")]).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let warnings = machine.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with(&format!("warning: the cache {down} is not used: ")), "{warnings:?}");
    assert!(warnings[1].contains("was not written as a whole"), "{warnings:?}");
    assert!(warnings[1].ends_with("(0 of 1 results are there)"), "{warnings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_its_own_cache() {
    let fake = Fake::start(Access::Open).await;
    let mut children = Vec::new();
    for name in ["a", "b"] {
        let entries = [entry("shared"), entry(name)];
        let mut config = ImageConfig::scratch(Platform::host());
        config.diff_ids = entries.iter().map(|entry| entry.blob.diff_id).collect();
        config.set_extension(INLINE_KEY, Some(inline::encode(&entries).unwrap()));
        let config = config.to_json();
        fake.add_blob("app", &config);
        let layers = entries.iter().map(|entry| entry.blob.descriptor.clone()).collect();
        let image = ImageManifest::new(Descriptor::of(OCI_CONFIG, &config), layers, Default::default());
        let raw = RawManifest::from_image(&image);
        fake.add_manifest("app", &raw.digest().to_string(), OCI_MANIFEST, &raw.bytes);
        children.push(raw.descriptor());
    }
    let index = RawManifest::from_index(&Index::new(children, Default::default()));
    fake.add_manifest("app", "v1", OCI_INDEX, &index.bytes);
    let by_digest = format!("{}/app@{}", fake.address, index.digest());
    for from in [cache(&fake, "v1"), by_digest] {
        let machine = Machine::new();
        let found = machine.imports(&[&from]).look_up(&keys(&["a", "b", "shared", "c"])).await;
        assert_eq!(found.len(), 6, "{from}");
        for name in ["a", "b", "shared"] {
            assert!(is_of(&found[&keys(&[name])[0]], name), "{name}");
        }
        assert_eq!(machine.warnings(), Vec::<String>::new());
    }
}
