//! The parsed Dockerfile: values only, nothing expanded, nothing resolved.
//!
//! "Raw" words keep their quotes, escapes and `$` references; [`super::expand`] removes them.

use std::borrow::Cow;

use super::checks::Checks;
use super::heredoc;

/// A Dockerfile, split into its stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The escape character: `\`, or a backtick after `` # escape=` ``.
    pub escape: char,
    /// What stands before the first FROM: [`Kind::Arg`] alone.
    pub preamble: Vec<Instruction>,
    /// The stages, in order; at least one.
    pub stages: Vec<Stage>,
    /// Findings of the build checks that need nothing but the text, without the skipped ones.
    pub warnings: Vec<Warning>,
    /// The directives at the top of the file.
    pub directives: Directives,
    /// Which build checks are wanted where, from `# check=` directives and comments.
    pub checks: Checks,
}

/// The parser directives of a Dockerfile, apart from `escape`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// The frontend that `# syntax=` names; always one whose language is read here.
    pub syntax: Option<String>,
    /// The options of `# check=`, as written.
    pub check: Option<String>,
}

/// One FROM block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The name after AS, lower-cased.
    pub name: Option<String>,
    /// The base as written: a raw word.
    pub base: String,
    /// The value of `--platform`, raw.
    pub platform: Option<String>,
    /// The lines of the FROM instruction alone.
    pub span: Span,
    /// The FROM instruction as one line.
    pub text: String,
    /// From the comment above that starts with the stage's name.
    pub description: Option<String>,
    /// The instructions below FROM, in order.
    pub instructions: Vec<Instruction>,
}

/// One instruction with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it says.
    pub kind: Kind,
    /// Its lines, with those of its heredocs.
    pub span: Span,
    /// It as one line for progress and messages: continuations joined with the blanks around the
    /// joints collapsed, heredoc bodies left out.
    pub text: String,
}

/// A range of lines, counted from 1, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first line.
    pub first: u32,
    /// The last line; the first one again if there is just one.
    pub last: u32,
}

/// A finding of a build check. It never stops a build by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The check's name, for example `StageNameCasing`.
    pub rule: &'static str,
    /// What was found.
    pub message: String,
    /// Where.
    pub span: Span,
}

/// The instructions other than FROM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ARG: at least one declaration.
    Arg(Vec<ArgDecl>),
    /// ENV: raw key and value words; the old form `ENV key rest of line` is one pair.
    Env(Vec<(String, String)>),
    /// LABEL: as ENV.
    Label(Vec<(String, String)>),
    /// RUN.
    Run(Run),
    /// COPY.
    Copy(Copy),
    /// ADD.
    Add(Add),
    /// CMD; `CMD []` is an empty [`Command::Exec`].
    Cmd(Command),
    /// ENTRYPOINT; `ENTRYPOINT []` is an empty [`Command::Exec`].
    Entrypoint(Command),
    /// SHELL: at least one word.
    Shell(Vec<String>),
    /// EXPOSE: at least one raw word, in the order written.
    Expose(Vec<String>),
    /// VOLUME: at least one raw word, none blank.
    Volume(Vec<String>),
    /// USER: one raw string.
    User(String),
    /// WORKDIR: one raw string.
    Workdir(String),
    /// ONBUILD: the trigger's text with its heredoc bodies, for [`super::parse_trigger`].
    Onbuild(String),
    /// HEALTHCHECK.
    Healthcheck(Healthcheck),
    /// STOPSIGNAL: one raw string.
    Stopsignal(String),
    /// MAINTAINER: one string, never expanded.
    Maintainer(String),
}

/// One declaration of an ARG instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDecl {
    /// The name, never blank.
    pub name: String,
    /// The default: a raw word. `ARG x=` has an empty one, `ARG x` none.
    pub default: Option<String>,
    /// From the comment above that starts with the name.
    pub description: Option<String>,
}

/// A command line in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Text for the SHELL, untouched.
    Shell(String),
    /// The words of a JSON array.
    Exec(Vec<String>),
}

/// A RUN instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command; the shell form without the heredoc bodies.
    pub command: Command,
    /// The heredocs of the shell form, in order.
    pub heredocs: Vec<Heredoc>,
    /// The values of `--mount`, raw, in order.
    pub mounts: Vec<String>,
    /// The value of `--network`: `default`, `none` or `host`.
    pub network: Option<String>,
    /// The value of `--security`: `sandbox` or `insecure`.
    pub security: Option<String>,
    /// The values of `--device`, in order.
    pub devices: Vec<String>,
}

/// What a RUN instruction carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// Text for the SHELL: the plain text, the body of a lone heredoc, or the line with the bodies
    /// and names of its heredocs below it.
    Text(String),
    /// The lone heredoc's body begins with `#!` (with no tab before it, even for `<<-`): it becomes the file `/dev/pipes/<name>`, and that
    /// path is the text for the SHELL.
    Shebang {
        /// The heredoc's name, a single file name.
        name: String,
        /// The file's content.
        body: String,
    },
    /// The words of the JSON form.
    Exec(Vec<String>),
}

impl Run {
    /// What is carried out, with the heredocs put in their places.
    pub fn script(&self) -> Script {
        let text = match &self.command {
            Command::Exec(words) => return Script::Exec(words.clone()),
            Command::Shell(text) => text,
        };
        match self.lone_heredoc() {
            Some(lone) if lone.body.starts_with("#!") => {
                Script::Shebang { name: lone.name.clone(), body: lone.text().into_owned() }
            }
            Some(lone) => Script::Text(lone.text().into_owned()),
            None => Script::Text(heredoc::append_bodies(text, &self.heredocs)),
        }
    }

    /// The heredoc that is the whole script: nothing else stands on the line.
    pub fn lone_heredoc(&self) -> Option<&Heredoc> {
        match (&self.command, self.heredocs.as_slice()) {
            (Command::Shell(text), [lone]) if heredoc::parse_word(text).is_some() => Some(lone),
            _ => None,
        }
    }
}

/// A COPY instruction. Paths are raw words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The paths, without heredocs; empty only if there are heredocs.
    pub sources: Vec<String>,
    /// The last word.
    pub destination: String,
    /// Inline files, copied after all paths. Their names are single file names.
    pub heredocs: Vec<Heredoc>,
    /// The value of `--from`, raw; it is not to be expanded.
    pub from: Option<String>,
    /// The value of `--chown`, raw.
    pub chown: Option<String>,
    /// The value of `--chmod`, raw.
    pub chmod: Option<String>,
    /// Whether `--link` is set.
    pub link: bool,
    /// Whether `--parents` is set.
    pub parents: bool,
    /// The values of `--exclude`, not to be expanded.
    pub exclude: Vec<String>,
}

/// An ADD instruction. Paths are raw words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// Paths and addresses, without heredocs; empty only if there are heredocs.
    pub sources: Vec<String>,
    /// The last word.
    pub destination: String,
    /// Inline files, copied after all sources. Their names are single file names.
    pub heredocs: Vec<Heredoc>,
    /// The value of `--chown`, raw.
    pub chown: Option<String>,
    /// The value of `--chmod`, raw.
    pub chmod: Option<String>,
    /// Whether `--link` is set.
    pub link: bool,
    /// The values of `--exclude`, not to be expanded.
    pub exclude: Vec<String>,
    /// The value of `--checksum`, raw.
    pub checksum: Option<String>,
    /// Whether `--keep-git-dir` is set.
    pub keep_git_dir: bool,
    /// The value of `--unpack`, if it was given.
    pub unpack: Option<bool>,
}

/// A heredoc of RUN, COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The name, unquoted.
    pub name: String,
    /// The lines up to the terminator as they are, with their line ends.
    pub body: String,
    /// Whether the body is expanded where a builder expands (COPY and ADD): no part of the name
    /// was quoted.
    pub expand: bool,
    /// Whether it was written `<<-`.
    pub strip_tabs: bool,
    /// The number before `<<`.
    pub fd: Option<u32>,
}

impl Heredoc {
    /// What is read from it: the body, for `<<-` without the tabs that begin its lines.
    pub fn text(&self) -> Cow<'_, str> {
        match self.strip_tabs {
            true => self.body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect(),
            false => Cow::Borrowed(&self.body),
        }
    }
}

/// A HEALTHCHECK instruction. A zero stands for the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    /// The test.
    pub test: HealthTest,
    /// `--interval`, in nanoseconds.
    pub interval: i64,
    /// `--timeout`, in nanoseconds.
    pub timeout: i64,
    /// `--start-period`, in nanoseconds.
    pub start_period: i64,
    /// `--start-interval`, in nanoseconds.
    pub start_interval: i64,
    /// `--retries`; 0 to 2^31 - 1.
    pub retries: i64,
}

/// The test of a HEALTHCHECK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthTest {
    /// `HEALTHCHECK NONE`: the base's test is switched off.
    None,
    /// `HEALTHCHECK CMD text`.
    Shell(String),
    /// `HEALTHCHECK CMD [...]`, never empty.
    Exec(Vec<String>),
}
