//! `fanfold cache du`: how much of the disk the store takes, and how much of that could be freed.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::json;

use super::super::environment::Environment;
use super::super::errors::Failure;
use super::super::report;
use super::super::table::table;
use super::args::UsageArgs;
use super::list::{ago, seconds, size};
use crate::coordinator::BuildError;
use crate::progress::human;
use crate::store::{Criteria, Entry, Inventory, Kind};

/// What belongs to no platform.
const ANY: &str = "any";

/// A line of the summary.
struct Sum {
    name: String,
    entries: usize,
    bytes: u64,
    is_whole: bool,
    freeable: u64,
    used: Option<SystemTime>,
}

/// Prints the summary, and gives the exit code.
pub(super) fn run(arguments: &UsageArgs, environment: &Environment) -> Result<u8, Failure> {
    super::with_store(&arguments.store, environment, |store| {
        let inventory = store.inventory().map_err(|error| Failure::from(BuildError::from(error)))?;
        let free = rustix::fs::statvfs(store.root())
            .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
            .map_err(|error| Failure::usage(format!("failed to look at the disk of the store: {error}")))?;
        let kinds = by_kind(&inventory);
        let platforms = by_platform(&inventory);
        let freeable = inventory.bytes_of(&inventory.choose(&Criteria { all: true, ..Criteria::default() }));
        let text = if arguments.store.json {
            json!({
                "size": inventory.size,
                "entries": inventory.entries.len(),
                "freeable": freeable,
                "disk_free": free,
                "kinds": kinds.iter().map(|sum| sum_json("kind", sum)).collect::<Vec<_>>(),
                "platforms": platforms.iter().map(|sum| sum_json("platform", sum)).collect::<Vec<_>>(),
            })
            .to_string()
        } else {
            format!(
                "{}\n{}\ntotal: {} in {} entries, of which {} can be freed now; {} are free on the disk",
                sums("KIND", &kinds),
                sums("PLATFORM", &platforms),
                size(inventory.size, inventory.entries.iter().all(|entry| entry.is_whole)),
                inventory.entries.len(),
                human::bytes(freeable),
                human::bytes(free),
            )
        };
        report::result(&text)?;
        Ok(0)
    })
}

fn by_kind(inventory: &Inventory) -> Vec<Sum> {
    let of = |kind: &Kind| sum(kind.name(), inventory, &|entry| entry.kind == *kind);
    Kind::ALL.iter().map(of).filter(|sum| sum.entries > 0).collect()
}

/// What several platforms have is counted for each of them.
fn by_platform(inventory: &Inventory) -> Vec<Sum> {
    let mut names: BTreeMap<&str, ()> = BTreeMap::new();
    names.extend(inventory.entries.iter().flat_map(|entry| &entry.platforms).map(|name| (name.as_str(), ())));
    let named = names.into_keys().map(|name| sum(name, inventory, &|entry| entry.platforms.contains(name)));
    let others = sum(ANY, inventory, &|entry| entry.platforms.is_empty());
    named.chain([others]).filter(|sum| sum.entries > 0).collect()
}

fn sum(name: &str, inventory: &Inventory, belongs: &dyn Fn(&Entry) -> bool) -> Sum {
    let mine = || inventory.entries.iter().filter(|entry| belongs(entry));
    Sum {
        name: name.to_owned(),
        entries: mine().count(),
        bytes: mine().map(|entry| entry.size).sum(),
        is_whole: mine().all(|entry| entry.is_whole),
        freeable: mine().filter(|entry| !entry.in_use).map(|entry| entry.size).sum(),
        used: mine().map(|entry| entry.used).max(),
    }
}

fn sums(title: &str, sums: &[Sum]) -> String {
    let now = SystemTime::now();
    let head = [title, "ENTRIES", "SIZE", "NOT IN USE", "LAST USED"].map(str::to_owned).to_vec();
    let rows = sums.iter().map(|sum| {
        vec![
            sum.name.clone(),
            sum.entries.to_string(),
            size(sum.bytes, sum.is_whole),
            human::bytes(sum.freeable),
            sum.used.map_or_else(String::new, |used| ago(now, used)),
        ]
    });
    table(&[head].into_iter().chain(rows).collect::<Vec<_>>())
}

fn sum_json(title: &str, sum: &Sum) -> serde_json::Value {
    json!({
        title: sum.name,
        "entries": sum.entries,
        "size": sum.bytes,
        "whole": sum.is_whole,
        "not_in_use": sum.freeable,
        "last_used": sum.used.map(seconds),
    })
}
