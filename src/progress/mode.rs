//! The ways of writing progress, and how one is chosen.

use std::fmt;
use std::str::FromStr;

/// A way of writing progress, as in `--progress`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// [`Mode::Tty`] where that is of use, else [`Mode::Plain`].
    #[default]
    Auto,
    /// A live block at the foot of the terminal.
    Tty,
    /// One line for each event, for logs.
    Plain,
    /// One JSON object a line, on standard output.
    Json,
    /// Nothing but the error, if there is one.
    Quiet,
}

/// What the caller found in the environment; this room does not look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `CI` is set and not empty: logs are kept, nobody watches.
    pub ci: bool,
    /// `TERM` is `dumb`: the terminal cannot move its cursor.
    pub dumb: bool,
    /// `NO_COLOR` is set and not empty.
    pub no_color: bool,
}

impl Mode {
    /// Puts a definite mode in the place of [`Mode::Auto`].
    pub fn resolve(self, environment: Environment, stderr_is_terminal: bool) -> Self {
        match self {
            Self::Auto if stderr_is_terminal && !environment.ci && !environment.dumb => Self::Tty,
            Self::Auto => Self::Plain,
            definite => definite,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Tty => "tty",
            Self::Plain => "plain",
            Self::Json => "json",
            Self::Quiet => "quiet",
        })
    }
}

/// A word that names no [`Mode`].
#[derive(Debug, thiserror::Error)]
#[error("unknown progress mode `{0}`: it is one of auto, tty, plain, json, quiet")]
pub struct ParseModeError(String);

impl FromStr for Mode {
    type Err = ParseModeError;

    fn from_str(word: &str) -> Result<Self, ParseModeError> {
        [Self::Auto, Self::Tty, Self::Plain, Self::Json, Self::Quiet]
            .into_iter()
            .find(|mode| mode.to_string() == word)
            .ok_or_else(|| ParseModeError(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_live_only_where_somebody_watches() {
        let plain = Environment::default();
        let ci = Environment { ci: true, ..plain };
        let dumb = Environment { dumb: true, ..plain };
        for (mode, environment, terminal, want) in [
            (Mode::Auto, plain, true, Mode::Tty),
            (Mode::Auto, plain, false, Mode::Plain),
            (Mode::Auto, ci, true, Mode::Plain),
            (Mode::Auto, dumb, true, Mode::Plain),
            (Mode::Tty, ci, false, Mode::Tty),
            (Mode::Json, plain, true, Mode::Json),
        ] {
            assert_eq!(mode.resolve(environment, terminal), want);
        }
    }

    #[test]
    fn words_are_exact() {
        assert_eq!("json".parse::<Mode>().ok(), Some(Mode::Json));
        let error = "JSON".parse::<Mode>().expect_err("upper case");
        assert!(error.to_string().starts_with("unknown progress mode `JSON`"));
    }
}
