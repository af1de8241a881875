//! What a record says, whatever it is written into.

use serde::{Deserialize, Serialize};

use super::{CacheError, Entry};
use crate::image::Digest;
use crate::progress::escape;
use crate::store::{BlobRecord, StepRecord};

/// The end of the year 9999, the last that RFC 3339 can write.
const LAST_SECOND: i64 = 253_402_300_799;
const MOST_KEYS: usize = 8;
const MOST_NOTES: usize = 24;
/// Lengths in bytes.
const LONGEST_NOTE: usize = 400;
const LONGEST_TEXT: usize = 2048;
const LONGEST_PLATFORM: usize = 100;

/// A record with the keys that it is found by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Statement {
    pub(super) keys: Vec<Digest>,
    pub(super) record: StepRecord,
}

/// A statement and the blob of its layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) statement: Statement,
    pub(super) blob: BlobRecord,
}

/// What is wrong with a document that should be a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Damage(String);

impl Damage {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Not the JSON that was expected; the parser's words may repeat what stands there.
    pub(super) fn json(error: &serde_json::Error) -> Self {
        Self(format!("it is not valid: {}", harmless(&error.to_string(), 200)))
    }
}

impl Statement {
    /// What is to be written of a result. Texts lose what no reader would accept.
    pub(super) fn of(entry: &Entry) -> Result<Self, CacheError> {
        let record = &entry.record;
        if *record.layer.digest() != entry.blob.diff_id.0 {
            return Err(CacheError::Unwritable {
                step: harmless(&record.text, LONGEST_PLATFORM),
                reason: format!(
                    "its layer is {}, its blob holds {}",
                    record.layer.digest(),
                    entry.blob.diff_id
                ),
            });
        }
        let mut keys: Vec<Digest> = Vec::new();
        for key in entry.keys.iter().chain([&record.content]) {
            if !keys.contains(key) {
                keys.push(*key);
            }
        }
        let notes = record.notes.iter().map(|note| harmless(note, LONGEST_NOTE));
        let mut kept: Vec<String> = notes.take(MOST_NOTES).collect();
        if record.notes.len() > MOST_NOTES {
            kept[MOST_NOTES - 1] = format!("and {} more", record.notes.len() - MOST_NOTES + 1);
        }
        let record = StepRecord {
            notes: kept,
            platform: harmless(&record.platform, LONGEST_PLATFORM),
            text: harmless(&record.text, LONGEST_TEXT),
            ..record.clone()
        };
        Ok(Self { keys, record })
    }

    /// Finds what no writer of records writes. `asked` is the key that it was found by.
    pub(super) fn check(&self, asked: Option<&Digest>) -> Result<(), Damage> {
        let record = &self.record;
        if asked.is_some_and(|key| !self.keys.contains(key)) {
            return Err(Damage::new("it is the record of another key"));
        }
        if self.keys.is_empty() || self.keys.len() > MOST_KEYS || !self.keys.contains(&record.content) {
            return Err(Damage::new("its keys are not those of one result"));
        }
        if !(0..=LAST_SECOND).contains(&record.created) {
            return Err(Damage::new("its date is not between the years 1970 and 9999"));
        }
        if record.notes.len() > MOST_NOTES {
            return Err(Damage::new(format!("it has {} notes", record.notes.len())));
        }
        let texts = record.notes.iter().map(|note| (note, LONGEST_NOTE));
        let others = [(&record.platform, LONGEST_PLATFORM), (&record.text, LONGEST_TEXT)];
        for (text, longest) in texts.chain(others) {
            if text.len() > longest || text.contains(['\n', '\t']) || escape::text(text) != *text {
                return Err(Damage::new("it has text that cannot be shown"));
            }
        }
        Ok(())
    }
}

impl Decoded {
    /// Whether it says the same of the result as `entry`, so that it need not be written anew. When it was
    /// made, and what is said to people, does not count.
    pub(super) fn is_of(&self, entry: &Entry) -> bool {
        let (mine, other) = (&self.statement.record, &entry.record);
        let (blob, others) = (&self.blob.descriptor, &entry.blob.descriptor);
        mine.layer == other.layer
            && mine.grounds == other.grounds
            && mine.content == other.content
            && (&blob.media_type, blob.digest, blob.size) == (&others.media_type, others.digest, others.size)
    }
}

/// One line without anything that acts on a terminal, of at most so many bytes.
fn harmless(text: &str, longest: usize) -> String {
    let mut line = escape::one_line(text);
    if line.len() > longest {
        let end = (0..=longest - '…'.len_utf8()).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::tests::entry;
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut entry = entry("x");
        entry.record.text = format!("RUN <<EOF\n\t\x1b[31m{}\nEOF", "ä".repeat(4000));
        entry.record.platform = "linux/\u{202e}amd64".to_owned();
        entry.record.notes = (0..100).map(|number| format!("note\n{number} {}", "é".repeat(300))).collect();
        let statement = Statement::of(&entry).unwrap();
        assert_eq!(statement.check(Some(&entry.keys[0])), Ok(()));
        assert_eq!(statement.record.notes.len(), MOST_NOTES);
        assert_eq!(statement.record.notes[MOST_NOTES - 1], "and 77 more");
        assert!(statement.record.text.starts_with("RUN <<EOF ä") && statement.record.text.ends_with('…'));
        assert_eq!(statement.record.platform, "linux/amd64");
    }

    #[test]
    fn a_layer_that_is_not_its_blob_is_not_written() {
        let mut entry = entry("x");
        entry.blob.diff_id = crate::image::DiffId(Digest::of(b"other"));
        assert!(Statement::of(&entry).unwrap_err().to_string().contains("its layer is"));
    }
}
