//! Parser directives: `# syntax=`, `# escape=`, `# check=` at the very top of the file.

use super::checks::CheckOptions;
use super::syntax_error::SyntaxError;

/// Collects directives while the first lines are read.
#[derive(Debug)]
pub(super) struct DirectiveState {
    /// The escape character in force.
    pub(super) escape: char,
    /// The value of `# check=`, its options and its line.
    pub(super) check: Option<(String, CheckOptions, u32)>,
    seen: Vec<Key>,
    finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Syntax,
    Escape,
    Check,
}

impl Default for DirectiveState {
    fn default() -> Self {
        Self { escape: '\\', check: None, seen: Vec::new(), finished: false }
    }
}

impl DirectiveState {
    /// A state that takes no directive any more.
    pub(super) fn finished(escape: char) -> Self {
        Self { escape, finished: true, ..Self::default() }
    }

    /// Looks at one line; true if it is a directive. The first line that is none ends the search.
    pub(super) fn take(&mut self, line: &str, number: u32) -> Result<bool, SyntaxError> {
        if self.finished {
            return Ok(false);
        }
        let Some((key, value)) = directive(line, "#") else {
            self.finished = true;
            return Ok(false);
        };
        if self.seen.contains(&key) {
            let name = match key {
                Key::Syntax => "syntax",
                Key::Escape => "escape",
                Key::Check => "check",
            };
            let message = format!("only one {name} parser directive can be used");
            return Err(SyntaxError::on_line(number, message));
        }
        self.seen.push(key);
        match key {
            Key::Escape => {
                self.escape = match value {
                    "\\" => '\\',
                    "`" => '`',
                    _ => {
                        let message = format!("invalid escape token '{value}' does not match ` or \\");
                        return Err(SyntaxError::on_line(number, message));
                    }
                }
            }
            Key::Check => {
                let options = CheckOptions::parse(value)
                    .map_err(|error| SyntaxError::on_line(number, error.to_string()))?;
                self.check = Some((value.to_owned(), options, number));
            }
            // Found by `syntax`, which also knows the other places of this directive.
            Key::Syntax => {}
        }
        Ok(true)
    }
}

/// Reads `<marker> key = value` with a known key.
fn directive<'a>(line: &'a str, marker: &str) -> Option<(Key, &'a str)> {
    let (key, value) = line.trim().strip_prefix(marker)?.split_once('=')?;
    let value = value.trim();
    let key = match key.trim().to_ascii_lowercase().as_str() {
        "syntax" => Key::Syntax,
        "escape" => Key::Escape,
        "check" => Key::Check,
        _ => return None,
    };
    (!value.is_empty()).then_some((key, value))
}

/// Finds the frontend that the text asks for, and the line of it.
///
/// # Errors
///
/// A frontend whose language is not read here.
pub(super) fn syntax(text: &[u8]) -> Result<Option<String>, SyntaxError> {
    let Some((name, line)) = find_syntax(text) else {
        return Ok(None);
    };
    if is_own_frontend(&name) {
        return Ok(Some(name));
    }
    let message = format!(
        "syntax directive names the frontend \"{name}\", but custom frontends are not run: only the language of docker/dockerfile:1 is read here"
    );
    Err(SyntaxError::on_line(line, message))
}

fn find_syntax(text: &[u8]) -> Option<(String, u32)> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    for marker in ["#", "//"] {
        for (line, number) in text.split(|&byte| byte == b'\n').zip(1u32..) {
            if number == 1 && line.starts_with(b"#!") {
                continue;
            }
            let Some((key, value)) = std::str::from_utf8(line).ok().and_then(|line| directive(line, marker))
            else {
                break;
            };
            if key == Key::Syntax {
                return Some((value.to_owned(), number));
            }
        }
    }
    if !text.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text).ok()?;
    Some((object.get("syntax")?.as_str()?.to_owned(), 1))
}

/// Whether `name` is a frontend image whose language is the one read here.
///
/// These are `docker/dockerfile` and `docker/dockerfile-upstream` of Docker Hub with the tag
/// `latest`, `1`, `1.x`, `1.x.y`, each of the numbers also with `-labs`; a digest may follow. No
/// such image is ever pulled.
pub fn is_own_frontend(name: &str) -> bool {
    let name = name.split_once('@').map_or(name, |(name, _digest)| name);
    let name = ["docker.io/", "index.docker.io/", "registry-1.docker.io/"]
        .iter()
        .find_map(|host| name.strip_prefix(host))
        .unwrap_or(name);
    let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
    if !matches!(repository, "docker/dockerfile" | "docker/dockerfile-upstream") {
        return false;
    }
    let numbers = tag.strip_suffix("-labs").unwrap_or(tag);
    let mut parts = numbers.split('.');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    tag == "latest" || (parts.next() == Some("1") && parts.clone().count() <= 2 && parts.all(is_number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(lines: &[&str]) -> Result<DirectiveState, SyntaxError> {
        let mut state = DirectiveState::default();
        for (line, number) in lines.iter().zip(1..) {
            state.take(line, number)?;
        }
        Ok(state)
    }

    #[test]
    fn escape_directive() {
        for (lines, want) in [
            (vec!["# escape=`"], '`'),
            (vec!["#ESCAPE = \\ "], '\\'),
            (vec!["# syntax=docker/dockerfile:1", "# check=skip=all", "# escape=`"], '`'),
            (vec!["# comment", "# escape=`"], '\\'),
            (vec!["", "# escape=`"], '\\'),
            (vec!["# key=value", "# escape=`"], '\\'),
            (vec!["# escape=", "# escape=`"], '\\'),
            (vec!["FROM a", "# escape=`"], '\\'),
        ] {
            assert_eq!(take(&lines).unwrap().escape, want, "{lines:?}");
        }
    }

    #[test]
    fn faults() {
        for (lines, line, message) in [
            (vec!["# escape=`", "# escape=`"], 2, "only one escape parser directive can be used"),
            (vec!["# syntax=a", "# Syntax=b"], 2, "only one syntax parser directive can be used"),
            (vec!["# escape=x"], 1, "invalid escape token 'x' does not match ` or \\"),
            (vec!["# check=foo=1"], 1, "invalid check option \"foo=1\""),
        ] {
            let error = take(&lines).unwrap_err();
            assert_eq!((error.line, error.message.as_str()), (line, message), "{lines:?}");
        }
    }

    #[test]
    fn syntax_is_found_in_all_its_places() {
        for (text, want) in [
            ("# syntax=docker/dockerfile:1\nFROM a", Some("docker/dockerfile:1")),
            ("\u{feff}#syntax = docker/dockerfile\r\n", Some("docker/dockerfile")),
            ("# escape=`\n# syntax=docker/dockerfile:1.7-labs", Some("docker/dockerfile:1.7-labs")),
            ("#!/bin/sh\n# syntax=docker/dockerfile:1", Some("docker/dockerfile:1")),
            ("// syntax=docker/dockerfile:1\n", Some("docker/dockerfile:1")),
            ("{\"syntax\": \"docker/dockerfile:1\"}", Some("docker/dockerfile:1")),
            ("# x\n# syntax=foo\n", None),
            ("FROM a\n# syntax=foo\n", None),
            ("{\"syntax\": 1}", None),
            ("{\"syntax\": ", None),
        ] {
            assert_eq!(syntax(text.as_bytes()).unwrap().as_deref(), want, "{text:?}");
        }
        let error = syntax(b"# escape=`\n# syntax=tonistiigi/x:1\n").unwrap_err();
        assert_eq!(
            (error.line, error.message.as_str()),
            (
                2,
                "syntax directive names the frontend \"tonistiigi/x:1\", but custom frontends are not run: only the language of docker/dockerfile:1 is read here"
            )
        );
    }

    #[test]
    fn own_frontends() {
        for (name, want) in [
            ("docker/dockerfile", true),
            ("docker/dockerfile:1", true),
            ("docker/dockerfile:1.7", true),
            ("docker/dockerfile:1.7.1", true),
            ("docker/dockerfile:1-labs", true),
            ("docker/dockerfile:1.7-labs", true),
            ("docker.io/docker/dockerfile-upstream:latest", true),
            ("docker/dockerfile:1.4@sha256:00", true),
            ("docker/dockerfile:2", false),
            ("docker/dockerfile:1.", false),
            ("docker/dockerfile:1.2.3.4", false),
            ("docker/dockerfile:latest-labs", false),
            ("docker/dockerfile:10", false),
            ("ghcr.io/docker/dockerfile:1", false),
            ("dockerfile:1", false),
            ("", false),
        ] {
            assert_eq!(is_own_frontend(name), want, "{name}");
        }
    }
}
