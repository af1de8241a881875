//! `fanfold cache verify`: reads the whole store again.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::environment::Environment;
use super::super::errors::{Failure, Kind};
use super::super::report;
use super::args::VerifyArgs;
use crate::coordinator::BuildError;
use crate::progress::escape;
use crate::sandbox::remove_tree;
use crate::store::Verified;

/// How often the count on a terminal changes.
const FRAME: Duration = Duration::from_millis(100);

/// Reads everything, and gives the exit code.
pub(super) fn run(arguments: &VerifyArgs, environment: &Environment) -> Result<u8, Failure> {
    let threads = match arguments.jobs {
        Some(0) => return Err(Failure::usage("--jobs 0: write 1 or more")),
        Some(jobs) => jobs,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    super::with_store(&arguments.store, environment, |store| {
        let terminal = std::io::stderr().is_terminal();
        let last = Mutex::new(Instant::now());
        let heard = |read: usize, of: usize| {
            let Ok(mut last) = last.lock() else { return };
            if terminal && last.elapsed() >= FRAME {
                *last = Instant::now();
                show(&format!("\r{read} of {of} read"));
            }
        };
        let verified = store.verify(threads, &heard, &|path| drop(remove_tree(path)));
        if terminal {
            show("\r\x1b[K");
        }
        let verified = verified.map_err(|error| Failure::from(BuildError::from(error)))?;
        let text = if arguments.store.json { as_json(&verified) } else { as_text(&verified) };
        report::result(&text)?;
        Ok(if verified.damaged.is_empty() { 0 } else { Kind::Step.code() })
    })
}

/// Writes a count over the last one. Where nobody can see it, nobody misses it.
fn show(text: &str) {
    let mut stderr = std::io::stderr();
    drop(stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()));
}

fn as_text(verified: &Verified) -> String {
    let mut lines = Vec::new();
    for damage in &verified.damaged {
        let end = if damage.dropped {
            "dropped"
        } else {
            "kept, as a running build may use it: verify again later"
        };
        lines.push(format!("damaged: {} {}: {} ({end})", damage.kind, damage.place, damage.reason));
    }
    lines.extend(verified.unknown.iter().map(|(place, reason)| format!("not verified: {place}: {reason}")));
    let Verified { layers, blobs, records, .. } = verified;
    let damaged = verified.damaged.len();
    let end = if damaged == 0 { "none of them damaged".to_owned() } else { format!("{damaged} damaged") };
    lines.push(format!("{layers} layers, {blobs} blobs and {records} records read, {end}"));
    lines.iter().map(|line| escape::one_line(line)).collect::<Vec<_>>().join("\n")
}

fn as_json(verified: &Verified) -> String {
    let damaged = verified.damaged.iter().map(|damage| {
        json!({
            "kind": damage.kind,
            "place": damage.place,
            "reason": damage.reason,
            "dropped": damage.dropped,
        })
    });
    let unknown = verified.unknown.iter().map(|(place, reason)| json!({ "place": place, "reason": reason }));
    json!({
        "layers": verified.layers,
        "blobs": verified.blobs,
        "records": verified.records,
        "damaged": damaged.collect::<Vec<_>>(),
        "not_verified": unknown.collect::<Vec<_>>(),
    })
    .to_string()
}
