//! One instruction: its word, flags and arguments, and the way to the parser of each.

use super::ast::{Kind, Span, Warning};
use super::flags::{self, RawFlag};
use super::from::From;
use super::heredoc::Found;
use super::keyword::Keyword;
use super::lines::BLANKS;
use super::syntax_error::Fault;
use super::{arguments, commands, copies, from, healthcheck, onbuild, run, words};

/// An instruction, split but not yet understood.
#[derive(Debug)]
pub(super) struct Statement<'t> {
    pub(super) keyword: Keyword,
    /// The instruction word as written.
    pub(super) word: &'t str,
    pub(super) flags: Vec<RawFlag>,
    /// What follows the flags, trimmed.
    pub(super) args: &'t str,
    /// Where the arguments begin in `text`.
    pub(super) args_at: usize,
    /// The whole joined text.
    pub(super) text: &'t str,
}

/// What the parser of an instruction sees around it, and where it leaves its findings.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) span: Span,
    pub(super) escape: char,
    /// The comments directly above.
    pub(super) comments: &'a [&'a str],
    pub(super) warnings: &'a mut Vec<Warning>,
}

impl Surroundings<'_> {
    /// Notes a finding of a build check.
    pub(super) fn warn(&mut self, rule: &'static str, message: impl Into<String>) {
        self.warnings.push(Warning { rule, message: message.into(), span: self.span });
    }
}

/// An instruction, understood.
#[derive(Debug)]
pub(super) enum Parsed {
    /// FROM, which begins a stage.
    From(From),
    /// Any other.
    Kind(Kind),
}

impl<'t> Statement<'t> {
    /// Splits the instruction that begins at byte `from` of `text`.
    pub(super) fn split(text: &'t str, from: usize, escape: char) -> Result<Self, Fault> {
        let rest = &text[from..];
        let start = from + rest.len() - rest.trim_start().len();
        let length = text[start..].find(BLANKS).unwrap_or(text.len() - start);
        let end = start + length;
        let word = text[start..end].trim_end();
        let keyword = Keyword::parse(word).map_err(|fault| fault.at(start..end))?;
        let (flags, args_at) = flags::split(text, end, escape);
        let args = text[args_at..].trim_start();
        let args_at = text.len() - args.len();
        Ok(Self { keyword, word, flags, args: args.trim_end(), args_at, text })
    }

    /// Where the heredocs of this instruction may stand: from which byte of the text on.
    pub(super) fn heredocs_from(&self, escape: char) -> Option<usize> {
        match self.keyword {
            Keyword::Run | Keyword::Copy | Keyword::Add if self.args.contains("<<") => {
                // The JSON form has none, whether it is a right one or not.
                matches!(words::json_array(self.args), Ok(None)).then_some(self.args_at)
            }
            Keyword::Onbuild if self.args.contains("<<") => {
                let trigger = Statement::split(self.text, self.args_at, escape).ok()?;
                // Triggers do not nest; asking a nested one would be quadratic.
                let nests = trigger.keyword == Keyword::Onbuild;
                if nests { None } else { trigger.heredocs_from(escape) }
            }
            _ => None,
        }
    }

    /// Checks the flags against those that the instruction knows: none.
    pub(super) fn no_flags(&self) -> Result<(), Fault> {
        flags::read(&self.flags, &[]).map(|_| ())
    }

    /// The arguments as one string.
    fn one_string(&self) -> Result<String, Fault> {
        self.no_flags()?;
        if self.args.is_empty() {
            return Err(Fault::new(format!("{} requires exactly one argument", self.keyword.name())));
        }
        Ok(self.args.to_owned())
    }

    /// Parses the instruction; `heredocs` are its own, in order, with their bodies.
    pub(super) fn parse(&self, heredocs: Vec<Found>, around: &mut Surroundings<'_>) -> Result<Parsed, Fault> {
        let kind = match self.keyword {
            Keyword::From => return from::parse(self, around).map(Parsed::From),
            Keyword::Arg => arguments::arg(self, around)?,
            Keyword::Env => Kind::Env(arguments::pairs(self, around)?),
            Keyword::Label => Kind::Label(arguments::pairs(self, around)?),
            Keyword::Run => run::parse(self, heredocs, around)?,
            Keyword::Copy => copies::copy(self, heredocs, around)?,
            Keyword::Add => copies::add(self, heredocs, around)?,
            Keyword::Cmd => Kind::Cmd(commands::parse(self, around)?),
            Keyword::Entrypoint => Kind::Entrypoint(commands::parse(self, around)?),
            Keyword::Shell => commands::shell(self)?,
            Keyword::Expose => {
                self.no_flags()?;
                let ports: Vec<_> = words::between_blanks(self.args).map(str::to_owned).collect();
                if ports.is_empty() {
                    return Err(Fault::new("EXPOSE requires at least one argument"));
                }
                Kind::Expose(ports)
            }
            Keyword::Volume => volume(self, around)?,
            Keyword::User => Kind::User(self.one_string()?),
            Keyword::Workdir => Kind::Workdir(self.one_string()?),
            Keyword::Onbuild => onbuild::parse(self, heredocs, around)?,
            Keyword::Healthcheck => healthcheck::parse(self, around)?,
            Keyword::Stopsignal => Kind::Stopsignal(self.one_string()?),
            Keyword::Maintainer => {
                let author = self.one_string()?;
                around.warn(
                    "MaintainerDeprecated",
                    "Maintainer instruction is deprecated in favor of using label",
                );
                Kind::Maintainer(author)
            }
        };
        Ok(Parsed::Kind(kind))
    }
}

/// Warns of arguments that were probably meant as a JSON array.
pub(super) fn warn_of_broken_json(statement: &Statement<'_>, args: &str, around: &mut Surroundings<'_>) {
    if words::resembles_json(args) {
        let name = statement.keyword.name();
        around.warn(
            "InvalidJSONForm",
            format!(
                "{name} arguments look like a JSON array but are not a valid one; they are not read as JSON"
            ),
        );
    }
}

/// VOLUME: words, or a JSON array of them.
fn volume(statement: &Statement<'_>, around: &mut Surroundings<'_>) -> Result<Kind, Fault> {
    statement.no_flags()?;
    let paths: Vec<String> = match words::json_array(statement.args)? {
        Some(paths) => paths.iter().map(|path| path.trim().to_owned()).collect(),
        None => {
            warn_of_broken_json(statement, statement.args, around);
            words::between_blanks(statement.args).map(str::to_owned).collect()
        }
    };
    if paths.is_empty() {
        return Err(Fault::new("VOLUME requires at least one argument"));
    }
    if paths.iter().any(String::is_empty) {
        return Err(Fault::new("VOLUME specified can not be an empty string"));
    }
    Ok(Kind::Volume(paths))
}
