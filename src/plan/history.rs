//! History lines, as `docker history` shows them.

use crate::dockerfile::{HealthTest, Healthcheck, duration};

/// Ends the lines of instructions that made a layer.
const MARK: &str = " # fanfold";

/// `RUN |2 A=1 B= /bin/sh -c make # fanfold`.
pub(super) fn run(arguments: &[(String, Option<String>)], argv: &[String]) -> String {
    let mut line = "RUN ".to_owned();
    if !arguments.is_empty() {
        line.push_str(&format!("|{} ", arguments.len()));
        for (name, value) in arguments {
            line.push_str(&format!("{name}={} ", value.as_deref().unwrap_or("")));
        }
    }
    line.push_str(&argv.join(" "));
    line + MARK
}

/// `COPY --chown=1:2 a b /c/ # fanfold`.
pub(super) fn copy(
    instruction: &str,
    flags: &[String],
    sources: &[String],
    inline: &[&str],
    destination: &str,
) -> String {
    let mut words = vec![instruction.to_owned()];
    words.extend(flags.iter().cloned());
    words.extend(sources.iter().cloned());
    words.extend(inline.iter().map(|name| format!("<<{name}")));
    words.push(destination.to_owned());
    words.join(" ") + MARK
}

/// `ENV A=1 B=2`.
pub(super) fn pairs<'a>(
    instruction: &str,
    pairs: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> String {
    let mut line = instruction.to_owned();
    for (name, value) in pairs {
        line.push(' ');
        line.push_str(name);
        if let Some(value) = value {
            line.push('=');
            line.push_str(value);
        }
    }
    line
}

/// `CMD ["/bin/sh" "-c" "echo hi"]`.
pub(super) fn quoted(instruction: &str, words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| quote(word)).collect();
    format!("{instruction} [{}]", words.join(" "))
}

/// `EXPOSE [443/tcp 80/tcp]`.
pub(super) fn plain(instruction: &str, words: &[String]) -> String {
    format!("{instruction} [{}]", words.join(" "))
}

/// `HEALTHCHECK {Test:[CMD a b] Interval:1m30s …}`.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    let test = match &check.test {
        HealthTest::None => "NONE".to_owned(),
        HealthTest::Shell(text) => format!("CMD-SHELL {text}"),
        HealthTest::Exec(words) => format!("CMD {}", words.join(" ")),
    };
    let mut line = format!("HEALTHCHECK {{Test:[{test}]");
    for (name, value) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        line.push_str(&format!(" {name}:{}", duration::format(value)));
    }
    line + &format!(" Retries:{}}}", check.retries)
}

/// Quotes a word as Go's `%q` does.
fn quote(word: &str) -> String {
    let mut text = String::from('"');
    for character in word.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            control if control.is_control() => text.push_str(&format!("\\x{:02x}", control as u32)),
            other => text.push(other),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn lines_as_documented() {
        assert_eq!(run(&[], &words("/bin/sh -c true")), "RUN /bin/sh -c true # fanfold");
        let arguments = [("A".to_owned(), None), ("C".to_owned(), Some("1".to_owned()))];
        assert_eq!(run(&arguments, &words("/bin/sh -c x")), "RUN |2 A= C=1 /bin/sh -c x # fanfold");
        assert_eq!(
            copy("COPY", &["--chown=1:2".to_owned()], &words("a b"), &["EOF"], "/c/"),
            "COPY --chown=1:2 a b <<EOF /c/ # fanfold"
        );
        assert_eq!(pairs("ARG", [("A", None), ("B", Some("1"))].into_iter()), "ARG A B=1");
        assert_eq!(quoted("CMD", &["/bin/sh".into(), "a \"b\"".into()]), r#"CMD ["/bin/sh" "a \"b\""]"#);
        assert_eq!(plain("EXPOSE", &words("443/tcp 80/tcp")), "EXPOSE [443/tcp 80/tcp]");
    }
}
