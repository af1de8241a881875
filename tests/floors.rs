//! Rooms import from lower floors only.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by floor, ground first. A room imports from lower floors only; moving one is a change of
/// the design: edit ARCHITECTURE.md in the same commit.
const FLOORS: &[&[&str]] = &[
    &["image", "progress", "secrets"],
    &["dockerfile", "layer", "sandbox", "registry"],
    &["store", "source", "plan"],
    &["engine", "cache"],
    &["coordinator", "output"],
    &["cli"],
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("the sources can be read") {
        let path = entry.expect("the sources can be read").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Rooms that a line of code names: `crate::room`, also several in braces.
fn named_rooms(line: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        let inside = rest.strip_prefix('{').map(|list| list.split('}').next().unwrap_or(list));
        for part in inside.unwrap_or(rest).split(',') {
            let word = part.trim().split(|letter: char| !letter.is_alphanumeric() && letter != '_').next();
            rooms.extend(word.filter(|word| !word.is_empty()).map(str::to_owned));
            if inside.is_none() {
                break;
            }
        }
    }
    rooms
}

#[test]
fn rooms_import_from_lower_floors_only() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    let mut checked = 0;
    for file in rust_files(&source) {
        let relative = file.strip_prefix(&source).unwrap();
        let room = relative.components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
        let Some(own) = floor(&room) else {
            assert!(matches!(room.as_str(), "main.rs" | "lib.rs"), "the room `{room}` stands on no floor");
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in
            text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for other in named_rooms(line).into_iter().filter(|other| *other != room) {
                checked += 1;
                match floor(&other) {
                    Some(other_floor) if other_floor < own => {}
                    Some(other_floor) => faults.push(format!(
                        "src/{}:{}: {room} (floor {}) must not use {other} (floor {})",
                        relative.display(),
                        number + 1,
                        own + 1,
                        other_floor + 1,
                    )),
                    None => faults.push(format!(
                        "src/{}:{}: no such room: {other}",
                        relative.display(),
                        number + 1
                    )),
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(checked > 100, "only {checked} imports were found: the search is broken");
}

#[test]
fn the_search_finds_imports() {
    assert_eq!(named_rooms("use crate::image::{Digest, DiffId};"), ["image"]);
    assert_eq!(named_rooms("use crate::{image, layer::Tree};"), ["image", "layer"]);
    assert_eq!(named_rooms("let x = crate::plan::Op::new(crate::store::Lock);"), ["plan", "store"]);
}
