//! `fanfold cache prune`: removes what was not used for long, or more than is wanted.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::super::environment::Environment;
use super::super::errors::Failure;
use super::super::report;
use super::super::values;
use super::args::PruneArgs;
use super::list::{entries_table, entry_json};
use crate::coordinator::BuildError;
use crate::progress::human;
use crate::sandbox::remove_tree;
use crate::store::{Criteria, Entry, StoreError};

const HOUR: u64 = 3600;

/// Removes, and gives the exit code.
pub(super) fn run(arguments: &PruneArgs, environment: &Environment) -> Result<u8, Failure> {
    let criteria = criteria(arguments)?;
    super::with_store(&arguments.store, environment, |store| {
        // Space that killed builds take is nobody's.
        if !arguments.dry_run {
            store.leftovers().remove(&|path| drop(remove_tree(path)));
        }
        let failed = |error: StoreError| Failure::from(BuildError::from(error));
        let inventory = store.inventory().map_err(failed)?;
        let chosen = inventory.choose(&criteria);
        let in_use = inventory.entries.iter().filter(|entry| entry.in_use).count();
        let (gone, bytes, kept) = if arguments.dry_run {
            let bytes = inventory.bytes_of(&chosen);
            (chosen, bytes, in_use)
        } else {
            let removed =
                store.remove(&inventory, &chosen, &|path| drop(remove_tree(path))).map_err(failed)?;
            (removed.entries, removed.bytes, in_use + removed.kept.len())
        };
        let entries: Vec<&Entry> = gone.iter().map(|at| &inventory.entries[*at]).collect();
        let left = inventory.size.saturating_sub(bytes);
        if arguments.store.json {
            let text = json!({
                "dry_run": arguments.dry_run,
                "freed": bytes,
                "size": left,
                "in_use": kept,
                "removed": entries.into_iter().map(entry_json).collect::<Vec<_>>(),
            });
            report::result(&text.to_string())?;
            return Ok(0);
        }
        if !entries.is_empty() {
            report::result(entries_table(&entries).trim_end())?;
        }
        let verb = if arguments.dry_run { "would be freed" } else { "freed" };
        let mut text = format!("{} {verb}, {} left", human::bytes(bytes), human::bytes(left));
        if kept > 0 {
            text.push_str(&format!("; {kept} of the entries may be in use and stay"));
        }
        report::result(&text)?;
        Ok(0)
    })
}

/// What is to go.
fn criteria(arguments: &PruneArgs) -> Result<Criteria, Failure> {
    let mut ages = Vec::new();
    if let Some(text) = &arguments.older_than {
        ages.push(age("--older-than", text)?);
    }
    for filter in &arguments.filter {
        match filter.split_once('=') {
            Some(("until", text)) => ages.push(age("--filter until", text)?),
            _ => {
                return Err(Failure::usage(format!("--filter {filter}: only until=DURATION is known"))
                    .with_hint("`fanfold cache ls --json` lists what there is"));
            }
        }
    }
    let most_bytes =
        arguments.max_size.as_deref().map(|text| values::size("--max-size", text)).transpose()?;
    if ages.is_empty() && most_bytes.is_none() && !arguments.all {
        return Err(Failure::usage("it is not said what is to be removed").with_hint(
            "--older-than 7d removes what no build has used for a week, --max-size 20g what is more than that, \
             --all everything that is not in use; --dry-run shows it first",
        ));
    }
    // Where several ages are given, only what is older than all of them is wanted less than the rest.
    let unused_since = ages.into_iter().max().map(|age| SystemTime::now().checked_sub(age));
    let unused_since = unused_since.map(|since| since.unwrap_or(SystemTime::UNIX_EPOCH));
    Ok(Criteria { all: arguments.all, unused_since, most_bytes })
}

/// Reads an age: a time, which may begin with weeks and days.
fn age(flag: &str, text: &str) -> Result<Duration, Failure> {
    let fault = || Failure::usage(format!("{flag} {text}: write a time such as 12h, 7d or 2w"));
    let (mut rest, mut total) = (text, 0_u64);
    for (unit, hours) in [('w', 7 * 24), ('d', 24)] {
        if let Some((number, after)) = rest.split_once(unit) {
            let number: u64 = number.parse().ok().filter(|_| !number.starts_with('+')).ok_or_else(fault)?;
            let seconds = number.checked_mul(hours * HOUR).ok_or_else(fault)?;
            total = total.checked_add(seconds).ok_or_else(fault)?;
            rest = after;
        }
    }
    let days = Duration::from_secs(total);
    if rest.is_empty() && rest.len() < text.len() {
        return Ok(days);
    }
    let rest = values::duration(flag, rest).map_err(|_| fault())?;
    days.checked_add(rest).ok_or_else(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (text, want) in [
            ("90s", Some(90)),
            ("12h", Some(12 * HOUR)),
            ("7d", Some(7 * 24 * HOUR)),
            ("0d", Some(0)),
            ("2w", Some(14 * 24 * HOUR)),
            ("1w2d3h30m", Some(9 * 24 * HOUR + 3 * HOUR + 1800)),
            ("", None),
            ("d", None),
            ("7", None),
            ("7 d", None),
            ("-1d", None),
            ("+1d", None),
            ("1d2w", None),
            ("1y", None),
            ("99999999999999999999d", None),
            ("9999999999999999999w", None),
        ] {
            let found = age("--older-than", text).ok();
            assert_eq!(found, want.map(Duration::from_secs), "{text}");
        }
    }
}
