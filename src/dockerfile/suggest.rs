//! The nearest known word to a mistyped one, for `(did you mean X?)`.
//!
//! Used for instructions, flags, mount keys and types, stages and build arguments.
//! Distances are counted in characters, without regard to case.

/// Words further away than this are not worth suggesting: `FOO` is two edits away from `FROM`.
const FARTHEST: usize = 2;

/// Longer words are never typed by hand, and would cost quadratic time.
const LONGEST: usize = 256;

/// Gives back the candidate that is nearest to `word`; of equally near ones, the first.
///
/// `None` if a candidate equals `word`, if all of them are more than two edits away, or if as many
/// edits as `word` has characters would be needed (then nothing of it would be left).
pub fn nearest<I>(word: &str, candidates: I) -> Option<String>
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    let wanted: Vec<char> = lower(word)?;
    let mut best: Option<(usize, String)> = None;
    for candidate in candidates {
        let candidate = candidate.as_ref();
        if candidate == word {
            return None;
        }
        let Some(letters) = lower(candidate) else {
            continue;
        };
        let limit = best.as_ref().map_or(FARTHEST + 1, |(distance, _)| *distance).min(wanted.len());
        if letters.len().abs_diff(wanted.len()) >= limit {
            continue;
        }
        let distance = distance(&wanted, &letters);
        if distance < limit {
            best = Some((distance, candidate.to_owned()));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn lower(word: &str) -> Option<Vec<char>> {
    (word.len() <= LONGEST).then(|| word.chars().flat_map(char::to_lowercase).collect())
}

/// Levenshtein distance: insertions, deletions and substitutions, each counted as one.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word_within_two_edits() {
        let words = ["FROM", "RUN", "ENV", "ENTRYPOINT", "dst", "from"];
        for (word, want) in [
            ("FORM", Some("FROM")),
            ("FOO", Some("FROM")),
            ("rnu", Some("RUN")),
            ("ENTRYPOIN", Some("ENTRYPOINT")),
            ("tgt", Some("dst")),
            ("From", Some("FROM")),
            ("RUN", None),
            ("XYZZY", None),
            ("", None),
            ("Q", None),
        ] {
            assert_eq!(nearest(word, words).as_deref(), want, "{word}");
        }
    }

    #[test]
    fn takes_owned_words_and_ignores_endless_ones() {
        assert_eq!(nearest("biuld", &["build".to_owned()]), Some("build".to_owned()));
        let endless = "x".repeat(100_000);
        assert_eq!(nearest(&endless, [endless.clone() + "y"]), None);
    }
}
