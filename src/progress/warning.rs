//! A warning as the writers for people show it.

use super::escape;
use super::event::Warning;

impl Warning {
    /// What people read: how bad it is and what, where, the source, and what to do. Nothing in the
    /// lines acts on a terminal.
    pub fn lines(&self, severity: &str) -> Vec<String> {
        let rule = self.rule.as_ref().map(|rule| format!("{rule}: ")).unwrap_or_default();
        let platform = self.platform.as_ref().map(|platform| format!(" ({platform})")).unwrap_or_default();
        let text = escape::one_line(&format!("{rule}{}{platform}", self.text));
        let mut lines = vec![format!("{severity}: {text}")];
        if let Some(place) = &self.place {
            let gutter = place.line.to_string().len();
            let file = escape::one_line(&place.file);
            lines.push(format!("{:gutter$}--> {file}:{}:{}", "", place.line, place.column));
            lines.extend(self.excerpt.lines().map(|line| escape::text(line).into_owned()));
        }
        lines.extend(self.hint.as_ref().map(|hint| format!("hint: {}", escape::one_line(hint))));
        lines
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::event::Place;
    use super::*;

    /// A finding of a build check in a Dockerfile.
    pub(in super::super) fn warning() -> Warning {
        Warning {
            rule: Some("StageNameCasing".to_owned()),
            text: "Stage name 'B' should be lowercase".to_owned(),
            platform: None,
            place: Some(Place { file: "Dockerfile".to_owned(), line: 12, column: 11 }),
            excerpt: "   |\n12 | FROM a AS B\n   |           ^\n".to_owned(),
            hint: Some("write it small".to_owned()),
        }
    }

    #[test]
    fn a_finding_has_five_lines_and_a_remark_has_one() {
        let want = "\
warning: StageNameCasing: Stage name 'B' should be lowercase
  --> Dockerfile:12:11
   |
12 | FROM a AS B
   |           ^
hint: write it small";
        assert_eq!(warning().lines("warning").join("\n"), want);
        let platform = Some("linux/arm64".parse().unwrap());
        let remark = Warning { platform, ..Warning::new("a\x1b[2J\nb") };
        assert_eq!(remark.lines("warning"), ["warning: a b (linux/arm64)"]);
    }
}
