//! What holds for every input, however broken: the property tests and the fuzz targets both ask here.
//!
//! Nothing of it is in the program: it is compiled for tests and for fuzzing only.

use super::ast::{Command, Dockerfile, Instruction, Kind, Span};
use super::excerpt::{Mark, excerpt, render};
use super::ignore::{Ignore, Verdict};
use super::mount::Mount;
use super::pattern::Pattern;
use super::places::columns_of;
use super::{expand, parse, parse_trigger, shell};

/// Checks a condition, and says with the input's values what does not hold.
macro_rules! hold {
    ($condition:expr, $($argument:tt)+) => {
        if !$condition {
            return Err(format!($($argument)+));
        }
    };
}

/// Parses a Dockerfile and reads everything that the result says of itself.
///
/// # Errors
///
/// What should hold and does not.
pub fn dockerfile(source: &[u8]) -> Result<(), String> {
    let bare = source.strip_prefix(b"\xef\xbb\xbf").unwrap_or(source);
    let text = String::from_utf8_lossy(bare);
    let lines: Vec<&str> = text.split_terminator('\n').collect();
    match parse(source) {
        Ok(file) => parsed(&file, &text, &lines),
        Err(error) => {
            hold!(!error.message.is_empty() && !error.message.contains('\n'), "{error:?}");
            let line = error.line as usize;
            hold!(line >= 1 && line <= lines.len().max(1), "{error:?} in {} lines", lines.len());
            let mark = error.columns.map(|columns| Mark { line: error.line, columns });
            if let Some((first, end)) = error.columns {
                let length = lines.get(line - 1).map_or(0, |line| line.chars().count());
                hold!(
                    first >= 1 && first < end && end as usize <= length + 1,
                    "{error:?} in {length} columns"
                );
            }
            let span = Span { first: error.line, last: error.line };
            // As it was found: a mark that begins the text is left out there.
            let whole = String::from_utf8_lossy(source);
            let shown = render("error", &error.full_message(), "Dockerfile", &whole, span, mark);
            hold!(mark.is_none() || shown.contains('^'), "{shown}");
            Ok(())
        }
    }
}

/// Spans are in order, inside the source, and leave out no line that says something.
fn parsed(file: &Dockerfile, text: &str, lines: &[&str]) -> Result<(), String> {
    hold!(!file.stages.is_empty(), "no stages");
    let stages = file.stages.iter();
    let spans = file.preamble.iter().map(|instruction| instruction.span).chain(stages.flat_map(|stage| {
        std::iter::once(stage.span).chain(stage.instructions.iter().map(|instruction| instruction.span))
    }));
    let mut covered = 0;
    for span in spans {
        let (first, last) = (span.first as usize, span.last as usize);
        hold!(first > covered && first <= last && last <= lines.len(), "{span:?} after line {covered}");
        silent(file.escape, lines, covered..first - 1)?;
        covered = last;
    }
    silent(file.escape, lines, covered..lines.len())?;
    for warning in &file.warnings {
        let (first, last) = (warning.span.first as usize, warning.span.last as usize);
        hold!(first >= 1 && first <= last && last <= lines.len(), "{warning:?}");
    }
    for instruction in file.preamble.iter().chain(file.stages.iter().flat_map(|stage| &stage.instructions)) {
        hold!(!instruction.text.is_empty() && !instruction.text.contains('\n'), "{instruction:?}");
        read(instruction, file.escape)?;
        let word = instruction.text.rsplit(' ').next().unwrap_or_default();
        let mark = columns_of(text, instruction.span, word).map(|(line, columns)| Mark { line, columns });
        let inside =
            mark.is_none_or(|mark| (instruction.span.first..=instruction.span.last).contains(&mark.line));
        hold!(inside, "{mark:?} of {word:?} in {:?}", instruction.span);
        hold!(excerpt(text, instruction.span, mark).contains('^'), "{mark:?} in {:?}", instruction.span);
    }
    Ok(())
}

/// Lines outside all spans are blank, comments, or hold nothing but a continuation.
fn silent(escape: char, lines: &[&str], range: std::ops::Range<usize>) -> Result<(), String> {
    for line in &lines[range] {
        let text = line.trim();
        let silent = text.is_empty() || text.starts_with('#') || text.strip_suffix(escape) == Some("");
        hold!(silent, "{line:?} belongs to no instruction");
    }
    Ok(())
}

/// Reads what an instruction keeps raw, as later rooms do.
fn read(instruction: &Instruction, escape: char) -> Result<(), String> {
    let value = |name: &str| name.len().is_multiple_of(2).then(|| name.to_owned());
    match &instruction.kind {
        Kind::Run(run) => {
            run.script();
            if let Command::Shell(text) = &run.command {
                let mut used = shell::shell_variables(text).into_iter();
                hold!(used.all(|(name, range)| text[range] == name), "{text:?}");
            }
            for heredoc in &run.heredocs {
                let script = format!(
                    "set -e
{}",
                    heredoc.text()
                );
                hold!(!shell::lacks_errexit(&script, &["sh".to_owned()]), "{script:?}");
            }
            for raw in &run.mounts {
                hold!(Mount::check(raw, escape).is_ok(), "{raw:?} passed the parser");
                let mount =
                    Mount::parse(raw, &mut |text| expand::expand(text, escape, &value).map(|e| e.text));
                hold!(mount.is_ok() || raw.contains('$'), "{raw:?} passed the check: {mount:?}");
            }
        }
        Kind::Onbuild(trigger) => {
            let parsed = parse_trigger(trigger, escape);
            hold!(parsed.is_ok(), "{trigger:?}: {parsed:?}");
        }
        Kind::Env(pairs) | Kind::Label(pairs) => {
            for word in pairs.iter().flat_map(|(key, value)| [key, value]) {
                // A word that cannot be expanded is a fault for later; here it only must not panic.
                let _ = expand::expand(word, escape, &value);
            }
        }
        Kind::Copy(copy) => {
            for heredoc in &copy.heredocs {
                let _ = expand::expand_heredoc(&heredoc.text(), &value);
            }
        }
        Kind::Expose(words) => words.iter().for_each(|word| {
            let _ = expand::expand_words(word, escape, &value);
        }),
        _ => {}
    }
    Ok(())
}

/// Reads a `.dockerignore` file, and judges the path that follows it behind a NUL.
///
/// # Errors
///
/// What should hold and does not.
pub fn ignore(data: &[u8]) -> Result<(), String> {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (file, path) = data.split_at(end);
    let parts =
        path.split(|byte| matches!(byte, 0 | b'/')).filter(|part| !matches!(*part, b"" | b"." | b".."));
    let parts: Vec<&[u8]> = parts.collect();
    let path = parts.join(&b'/');
    let shown = String::from_utf8_lossy(&path);
    for line in file.split(|byte| *byte == b'\n') {
        if let Ok(pattern) =
            std::str::from_utf8(line).map_err(drop).and_then(|line| Pattern::compile(line).map_err(drop))
            && pattern.matches(&path)
        {
            for end in (0..path.len()).filter(|end| path[*end] == b'/') {
                hold!(pattern.may_match_below(&path[..end]), "{pattern:?} matches {shown:?}");
            }
        }
    }
    let Ok(ignore) = Ignore::parse(file) else {
        return Ok(());
    };
    let last = ignore.verdict_of(&path);
    hold!(!last.ignored || last.rule.is_some(), "{last:?}");
    let mut verdict = Verdict::root();
    for end in (0..path.len()).filter(|end| path[*end] == b'/') {
        verdict = ignore.verdict(&path[..end], &verdict);
        hold!(verdict == ignore.verdict_of(&path[..end]), "the walk differs at byte {end} of {shown:?}");
        hold!(
            last.ignored || ignore.may_reinclude_below(&path[..end]),
            "{shown:?} is left out at byte {end}"
        );
    }
    hold!(path.is_empty() || ignore.verdict(&path, &verdict) == last, "the walk differs at {shown:?}");
    if let Some(rule) = last.rule {
        let (line, _) = ignore.rule(rule);
        hold!(line as usize <= file.split(|byte| *byte == b'\n').count(), "rule of line {line}");
    }
    Ok(())
}
