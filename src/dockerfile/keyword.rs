//! The instruction words.

use super::suggest;
use super::syntax_error::Fault;

/// An instruction word, in whatever case it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
}

/// Every word, the usual ones first: of equally near words the first one is suggested.
const WORDS: [(&str, Keyword); 18] = [
    ("FROM", Keyword::From),
    ("RUN", Keyword::Run),
    ("COPY", Keyword::Copy),
    ("ADD", Keyword::Add),
    ("ENV", Keyword::Env),
    ("ARG", Keyword::Arg),
    ("WORKDIR", Keyword::Workdir),
    ("CMD", Keyword::Cmd),
    ("ENTRYPOINT", Keyword::Entrypoint),
    ("LABEL", Keyword::Label),
    ("EXPOSE", Keyword::Expose),
    ("VOLUME", Keyword::Volume),
    ("USER", Keyword::User),
    ("SHELL", Keyword::Shell),
    ("HEALTHCHECK", Keyword::Healthcheck),
    ("STOPSIGNAL", Keyword::Stopsignal),
    ("ONBUILD", Keyword::Onbuild),
    ("MAINTAINER", Keyword::Maintainer),
];

impl Keyword {
    /// Reads a word.
    pub(super) fn parse(word: &str) -> Result<Self, Fault> {
        let found = WORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
        found.map(|(_, keyword)| *keyword).ok_or_else(|| {
            let word = word.to_uppercase();
            Fault::new(format!("unknown instruction: {word}"))
                .suggest(suggest::nearest(&word, WORDS.iter().map(|(name, _)| name)))
        })
    }

    /// The word in capitals.
    pub(super) fn name(self) -> &'static str {
        WORDS.iter().find(|(_, keyword)| *keyword == self).map_or("", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_in_any_case() {
        for (name, keyword) in WORDS {
            assert_eq!(Keyword::parse(name).unwrap(), keyword);
            assert_eq!(Keyword::parse(&name.to_lowercase()).unwrap(), keyword);
            assert_eq!(keyword.name(), name);
        }
        assert!(Keyword::parse("").is_err());
    }
}
