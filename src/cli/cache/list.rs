//! `fanfold cache ls`: what is in the store.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::super::environment::Environment;
use super::super::errors::Failure;
use super::super::options::platforms;
use super::super::report;
use super::super::table::table;
use super::args::ListArgs;
use crate::coordinator::BuildError;
use crate::progress::human;
use crate::store::Entry;

/// Characters of an instruction that are shown; JSON has all of them.
const LONGEST: usize = 80;

/// Prints the list, and gives the exit code.
pub(super) fn run(arguments: &ListArgs, environment: &Environment) -> Result<u8, Failure> {
    let wanted: Vec<String> = platforms(&arguments.platform)?.iter().map(ToString::to_string).collect();
    super::with_store(&arguments.store, environment, |store| {
        let inventory = store.inventory().map_err(|error| Failure::from(BuildError::from(error)))?;
        let is_wanted = |entry: &&Entry| {
            wanted.is_empty() || entry.platforms.iter().any(|platform| wanted.contains(platform))
        };
        let entries: Vec<&Entry> = inventory.entries.iter().filter(is_wanted).collect();
        let text = match (arguments.store.json, entries.is_empty()) {
            (true, _) => {
                json!({ "entries": entries.into_iter().map(entry_json).collect::<Vec<_>>() }).to_string()
            }
            (false, true) if wanted.is_empty() => "the store is empty".to_owned(),
            (false, true) => format!("nothing in the store belongs to {}", wanted.join(", ")),
            (false, false) => entries_table(&entries),
        };
        report::result(text.trim_end())?;
        Ok(0)
    })
}

/// A line for each entry.
pub(super) fn entries_table(entries: &[&Entry]) -> String {
    let now = SystemTime::now();
    let head = ["KIND", "ID", "SIZE", "LAST USED", "PLATFORM", "WHAT"].map(str::to_owned).to_vec();
    let rows = entries.iter().map(|entry| {
        let used = if entry.in_use { "in use".to_owned() } else { ago(now, entry.used) };
        vec![
            entry.kind.to_string(),
            human::short_digest(&entry.id.to_string()).to_owned(),
            size(entry.size, entry.is_whole),
            used,
            entry.platforms.iter().cloned().collect::<Vec<_>>().join(","),
            shortened(&entry.what),
        ]
    });
    table(&[head].into_iter().chain(rows).collect::<Vec<_>>())
}

/// An entry as programs get it.
pub(super) fn entry_json(entry: &Entry) -> Value {
    json!({
        "kind": entry.kind.name(),
        "id": entry.id.to_string(),
        "size": entry.size,
        "whole": entry.is_whole,
        "last_used": seconds(entry.used),
        "in_use": entry.in_use,
        "platforms": entry.platforms,
        "what": entry.what,
    })
}

/// Bytes for people; `>` says that there may be more.
pub(super) fn size(bytes: u64, is_whole: bool) -> String {
    format!("{}{}", if is_whole { "" } else { ">" }, human::bytes(bytes))
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How long ago something was, in its largest unit.
pub(super) fn ago(now: SystemTime, then: SystemTime) -> String {
    let seconds = now.duration_since(then).unwrap_or(Duration::ZERO).as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3600 => (seconds / 60, "m"),
        3600..172_800 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{count}{unit} ago")
}

fn shortened(text: &str) -> String {
    let text = crate::progress::escape::one_line(text);
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let then = UNIX_EPOCH + Duration::from_secs(1000);
        for (seconds, want) in [
            (0, "0s ago"),
            (59, "59s ago"),
            (60, "1m ago"),
            (7199, "1h ago"),
            (172_799, "47h ago"),
            (172_800, "2d ago"),
            (86_400 * 400, "400d ago"),
        ] {
            assert_eq!(ago(then + Duration::from_secs(seconds), then), want);
        }
        assert_eq!(ago(UNIX_EPOCH, then), "0s ago");
    }

    #[test]
    fn long_and_hostile_instructions_are_one_short_line() {
        assert_eq!(shortened("RUN a\n\x1b[2Jb"), "RUN a b");
        assert_eq!(shortened(&"x".repeat(200)).chars().count(), LONGEST);
    }
}
