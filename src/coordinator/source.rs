//! The Dockerfile's text, for messages that show where something stands.

use super::BuildError;
use crate::dockerfile::{
    self, Mark, Span, columns_of, columns_of_name, columns_of_variable, excerpt, render,
};
use crate::plan;
use crate::progress::{Place, Warning};

/// The text of a Dockerfile with its name.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name, as shown.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// What carets go under: the word, else what the message quotes, where either stands in the lines.
    /// `$NAME` stands for every form of a reference to the variable.
    pub fn mark(&self, span: Span, word: Option<&str>, message: &str) -> Option<Mark> {
        let candidates = word.into_iter().chain(quoted(message));
        // A path that a message gives from the root is seldom written so.
        let mut forms = candidates.flat_map(|word| [word, word.trim_start_matches('/')]);
        forms.find_map(|word| {
            let (line, columns) = match variable(word) {
                Some(name) => columns_of_variable(&self.text, span, name)?,
                None => columns_of(&self.text, span, word.lines().next()?)?,
            };
            Some(Mark { line, columns })
        })
    }

    /// What carets go under for an error; nothing where the whole instruction is at fault.
    pub fn mark_of(&self, error: &BuildError) -> Option<Mark> {
        let span = error.span.filter(|_| !error.whole)?;
        self.mark(span, error.word.as_deref(), &error.message)
    }

    /// The line and column, from 1, where something begins: at the mark, else at the first text of the
    /// lines.
    pub fn place(&self, span: Span, mark: Option<Mark>) -> Place {
        let (line, column) = match mark {
            Some(mark) => (mark.line, mark.columns.0),
            None => {
                let text = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
                let line = text.lines().nth(span.first.saturating_sub(1) as usize).unwrap_or_default();
                let blanks = line.chars().take_while(|c| c.is_whitespace()).count();
                (span.first, u32::try_from(blanks).unwrap_or(u32::MAX - 1) + 1)
            }
        };
        Place { file: self.name.clone(), line, column }
    }

    /// An error's whole text, with its place and its lines.
    pub fn error(&self, message: &str, span: Span, mark: Option<Mark>) -> String {
        render("error", message, &self.name, &self.text, span, mark)
    }

    /// A warning of the parser, ready to be shown.
    pub fn of_parser(&self, warning: &dockerfile::Warning) -> Warning {
        let mark = match warning.rule {
            "NoEmptyContinuation" => self.blank_line(warning.span),
            "SecretsUsedInArgOrEnv" => self.set_name(warning),
            _ => self.mark(warning.span, None, &warning.message),
        };
        let shown = self.finding(Some(warning.rule), &warning.message, Some(warning.span), mark);
        Warning { hint: dockerfile::advice(warning.rule).map(str::to_owned), ..shown }
    }

    /// A warning of the plan, ready to be shown.
    pub fn of_plan(&self, warning: &plan::Warning) -> Warning {
        let mark = warning.span.and_then(|span| self.mark(span, warning.word.as_deref(), &warning.message));
        let shown = self.finding(warning.rule, &warning.message, warning.span, mark);
        Warning { hint: warning.hint.clone(), ..shown }
    }

    /// A remark on an instruction, ready to be shown.
    pub fn remark(&self, message: &str, span: Span) -> Warning {
        self.finding(None, message, Some(span), self.mark(span, None, message))
    }

    /// Something found in the lines of a span, ready to be shown with the line that it begins on.
    pub fn finding(
        &self,
        rule: Option<&str>,
        message: &str,
        span: Option<Span>,
        mark: Option<Mark>,
    ) -> Warning {
        let place = span.map(|span| self.place(span, mark));
        // One line is enough to find it.
        let line = place.as_ref().map(|place| Span { first: place.line, last: place.line });
        Warning {
            rule: rule.map(str::to_owned),
            place,
            excerpt: line.map(|line| excerpt(&self.text, line, mark)).unwrap_or_default(),
            ..Warning::new(message)
        }
    }

    /// The name that a warning quotes, where it is set; else where it stands.
    fn set_name(&self, warning: &dockerfile::Warning) -> Option<Mark> {
        let names = quoted(&warning.message);
        let set = names.first().and_then(|name| columns_of_name(&self.text, warning.span, name));
        let mark = set.map(|(line, columns)| Mark { line, columns });
        mark.or_else(|| self.mark(warning.span, None, &warning.message))
    }

    /// The first blank line of a span.
    fn blank_line(&self, span: Span) -> Option<Mark> {
        let lines = (span.first..).zip(self.text.lines().skip(span.first.saturating_sub(1) as usize));
        let mut inside = lines.take_while(|(number, _)| *number <= span.last);
        let (line, _) = inside.find(|(_, text)| text.trim().is_empty())?;
        Some(Mark { line, columns: (1, 2) })
    }
}

/// The variable that a word refers to, if it is nothing but `$NAME`, perhaps with a sign behind it.
fn variable(word: &str) -> Option<&str> {
    let name = word.strip_prefix('$')?.trim_end_matches([',', '.', ';', ':', '?', ')']);
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some(name)
}

/// What a message has between quotes, and the variables that it names.
fn quoted(message: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for quote in ['"', '`', '\''] {
        found.extend(message.split(quote).skip(1).step_by(2).filter(|text| !text.trim().is_empty()));
    }
    found.extend(message.split_whitespace().filter(|word| word.starts_with('$')));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks() {
        let text = "FROM a AS Build\nRUN x \\\n\n  y\nCOPY /b.txt c/\n".to_owned();
        let source = Source { name: "Dockerfile".to_owned(), text };
        let span = |first, last| Span { first, last };
        let at = |mark: Option<Mark>| mark.map(|mark| (mark.line, mark.columns));
        for (lines, word, message, want) in [
            (span(1, 1), Some("Build"), "m", Some((1, (11, 16)))),
            (span(1, 1), None, "Stage name 'Build' should be lowercase", Some((1, (11, 16)))),
            (span(5, 5), None, "\"/b.txt\": not found", Some((5, (6, 12)))),
            (span(5, 5), None, "\"/c/\": not found", Some((5, (13, 15)))),
            (span(5, 5), Some("nowhere"), "it isn't there", None),
        ] {
            assert_eq!(at(source.mark(lines, word, message)), want, "{message}");
        }
        assert_eq!(at(source.blank_line(span(2, 4))), Some((3, (1, 2))));
        let place = source.place(span(4, 4), None);
        assert_eq!((place.line, place.column), (4, 3));
    }

    #[test]
    fn marks_of_variables_and_names() {
        let text = "ENV NOPE=$NOPE\nRUN <<E\necho ARCH $ARCHES is ${ARCH}\nE\nARG X=MY_TOKEN MY_TOKEN=1\n";
        let source = Source { name: "Dockerfile".to_owned(), text: text.to_owned() };
        let at = |mark: Option<Mark>| mark.map(|mark| (mark.line, mark.columns));
        let span = |first, last| Span { first, last };
        assert_eq!(at(source.mark(span(1, 1), Some("$NOPE"), "m")), Some((1, (10, 15))));
        assert_eq!(at(source.mark(span(1, 1), None, "it uses $NOPE, which")), Some((1, (10, 15))));
        assert_eq!(at(source.mark(span(2, 4), Some("$ARCH"), "m")), Some((3, (22, 29))));
        assert_eq!(at(source.mark(span(5, 5), Some("$X"), "m")), None);
        let message = "Do not use ARG or ENV instructions for sensitive data (ARG \"MY_TOKEN\")".to_owned();
        let warning = dockerfile::Warning { rule: "SecretsUsedInArgOrEnv", message, span: span(5, 5) };
        let place = source.of_parser(&warning).place.unwrap();
        assert_eq!((place.line, place.column), (5, 16));
    }

    #[test]
    fn a_failed_command_is_marked_as_a_whole() {
        let text = "RUN echo \"hello\" 'x y' && false\n".to_owned();
        let source = Source { name: "Dockerfile".to_owned(), text };
        let message = "process \"/bin/sh -c echo \"hello\" 'x y' && false\" did not complete";
        let error = BuildError {
            span: Some(Span { first: 1, last: 1 }),
            ..BuildError::new(crate::coordinator::ErrorKind::Step, message)
        };
        assert!(source.mark_of(&error).is_some());
        assert_eq!(source.mark_of(&BuildError { whole: true, ..error }), None);
    }
}
