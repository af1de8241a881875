//! COPY and ADD: which files, from where, and what identifies them.

use super::history;
use super::instruction::{StageBuilder, clean_path};
use super::key::Key;
use super::planner::Stop;
use super::stage::{display_name, find};
use super::{
    ContextKind, CopyFrom, CopyOp, CopyPart, FileSource, Inline, Op, Origin, PlanError, StepId, contexts,
};
use crate::dockerfile::{
    Add, Copy, GitAddress, Heredoc, Instruction, Selection, Span, expand, suggest, without_userinfo,
};

/// What COPY and ADD have in common, before expansion.
struct Words<'a> {
    instruction: &'static str,
    sources: &'a [String],
    destination: &'a str,
    heredocs: &'a [Heredoc],
    chown: Option<&'a str>,
    chmod: Option<&'a str>,
    parents: bool,
    link: bool,
}

/// What `--from` names.
pub(super) enum Place {
    /// The result of a step.
    Step(StepId),
    /// A stage without any layer.
    Nothing,
    /// Files that belong to no stage.
    Files(FileSource),
}

/// An instruction that names a place with `--from` or `from=`, for messages.
#[derive(Clone, Copy)]
pub(super) enum Naming<'a> {
    /// COPY.
    Copy,
    /// A mount with this target.
    Mount(&'a str),
}

impl StageBuilder<'_, '_> {
    pub(super) fn copy(&mut self, copy: &Copy, instruction: &Instruction) -> Result<(), Stop> {
        let span = instruction.span;
        for source in &copy.sources {
            let kind = match remote(source, span) {
                Ok(None) => continue,
                Ok(Some(Remote::Url)) => "URL",
                Ok(Some(Remote::Git)) | Err(_) => "git ref",
            };
            return Err(PlanError::at(span, format!("source can't be a {kind} for COPY"))
                .with_hint("use ADD")
                .with_word(source)
                .into());
        }
        let from = match copy.from.as_deref() {
            None => CopyFrom::Files(FileSource::Context),
            Some(name) => match self.place(name, Naming::Copy, span)? {
                Place::Step(id) => CopyFrom::Step(id),
                Place::Nothing => CopyFrom::Nothing,
                Place::Files(files) => CopyFrom::Files(files),
            },
        };
        let sources = self.expand_all(&copy.sources, span)?;
        let selection =
            Selection { sources: sources.clone(), exclude: copy.exclude.clone(), parents: copy.parents };
        let words = Words {
            instruction: "COPY",
            sources: &copy.sources,
            destination: &copy.destination,
            heredocs: &copy.heredocs,
            chown: copy.chown.as_deref(),
            chmod: copy.chmod.as_deref(),
            parents: copy.parents,
            link: copy.link,
        };
        let parts = vec![CopyPart { from, selection, unpack: false }];
        Ok(self.copy_step(&words, &sources, parts, instruction)?)
    }

    pub(super) fn add(&mut self, add: &Add, instruction: &Instruction) -> Result<(), Stop> {
        let span = instruction.span;
        let sources = self.expand_all(&add.sources, span)?;
        let checksum = add.checksum.as_deref().map(|text| self.expand(text, span)).transpose()?;
        let parts = add_parts(add, &sources, checksum.as_deref(), span)?;
        let words = Words {
            instruction: "ADD",
            sources: &add.sources,
            destination: &add.destination,
            heredocs: &add.heredocs,
            chown: add.chown.as_deref(),
            chmod: add.chmod.as_deref(),
            parents: false,
            link: add.link,
        };
        Ok(self.copy_step(&words, &sources, parts, instruction)?)
    }

    /// What `--from` names: an earlier stage by name or number, a context with a name, or an image.
    pub(super) fn place(&mut self, name: &str, naming: Naming<'_>, span: Span) -> Result<Place, Stop> {
        if name.contains('$') {
            return Err(PlanError::at(
                span,
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
            )
            .with_word(name)
            .into());
        }
        let dockerfile = self.planner.dockerfile;
        if let Some(stage) = find(dockerfile, name, self.index) {
            let target = self.target.clone();
            let state = self.planner.stage(stage, &target)?;
            return Ok(state.tip.map_or(Place::Nothing, Place::Step));
        }
        if name.parse::<usize>().is_ok() {
            let hint = match self.index {
                0 => "there is no stage before this one".to_owned(),
                count => format!("the stages before this one have the numbers 0 to {}", count - 1),
            };
            return Err(PlanError::at(span, format!("invalid stage index {name}"))
                .with_hint(hint)
                .with_word(name)
                .into());
        }
        // Images and contexts are the target's, whatever the stage is built on.
        let platform = self.target.clone();
        if let Some(later) = find(dockerfile, name, dockerfile.stages.len())
            && contexts::find(self.planner.request, name, &platform).is_none()
        {
            return Err(self.not_yet(later, name, naming, span).into());
        }
        if name == "scratch" {
            return Ok(Place::Nothing);
        }
        let image_name = match contexts::find(self.planner.request, name, &platform) {
            None => None,
            Some((place, context)) => match &context.holds {
                ContextKind::Files => return Ok(Place::Files(FileSource::Named(place))),
                ContextKind::Scratch => return Ok(Place::Nothing),
                ContextKind::Image(name) => Some(name.clone()),
            },
        };
        let image = match image_name {
            Some(name) => self.planner.image(&name, &platform, span)?,
            None => self.planner.copy_image(name, &platform, span).map_err(|stop| match stop {
                Stop::Fault(fault) => {
                    let stages = dockerfile.stages.iter().filter_map(|stage| stage.name.as_deref());
                    match suggest::nearest(name, stages) {
                        Some(known) => {
                            Stop::Fault(fault.with_hint(format!("did you mean the stage {known}?")))
                        }
                        None => Stop::Fault(fault),
                    }
                }
                Stop::Waiting => Stop::Waiting,
            })?,
        };
        if image.layers.is_empty() {
            return Ok(Place::Nothing);
        }
        let stage = display_name(dockerfile, self.index);
        let origin = Origin { stage, text: format!("FROM {name}"), span, number: 1, of: 1 };
        Ok(Place::Step(self.planner.base(&image, platform, origin)))
    }

    /// A stage that is named too early, or by itself.
    fn not_yet(&self, later: usize, name: &str, naming: Naming<'_>, span: Span) -> PlanError {
        let own = display_name(self.planner.dockerfile, self.index);
        let text = match naming {
            _ if later == self.index => format!("circular dependency detected on stage: {own}"),
            Naming::Copy => format!(
                "cannot copy from stage \"{name}\", it needs to be defined before current stage \"{own}\""
            ),
            Naming::Mount(target) => format!(
                "cannot mount from stage \"{name}\" to \"{target}\", stage needs to be defined before current command"
            ),
        };
        PlanError::at(span, text).with_word(name)
    }

    fn copy_step(
        &mut self,
        words: &Words<'_>,
        sources: &[String],
        parts: Vec<CopyPart>,
        instruction: &Instruction,
    ) -> Result<(), PlanError> {
        let span = instruction.span;
        self.lint_sources(words.instruction, &parts, span);
        let destination = self.expand(words.destination, span)?;
        let chown = words.chown.map(|text| self.expand(text, span)).transpose()?;
        let chmod = words.chmod.map(|text| self.expand(text, span)).transpose()?;
        let inline =
            words.heredocs.iter().map(|heredoc| self.inline(heredoc, span)).collect::<Result<Vec<_>, _>>()?;
        let cwd = self.cwd();

        // Names of users are looked up in the stage: such a copy depends on it.
        let alone = words.link && chown.as_deref().is_none_or(is_numeric);
        let mut key = Key::new("copy")
            .flag(alone)
            .flag(words.link)
            .text(&destination)
            .option((!destination.starts_with('/')).then_some(cwd.as_str()))
            .option(chown.as_deref())
            .option(chmod.as_deref())
            .list(inline.iter().map(|file| file.name.as_str()))
            .list(inline.iter().map(|file| file.content.as_str()))
            .number(self.planner.request.epoch);
        for part in &parts {
            let Selection { sources, exclude, parents } = &part.selection;
            key = key
                .flag(part.unpack)
                .flag(*parents)
                .list(sources.iter().map(String::as_str))
                .list(exclude.iter().map(String::as_str));
            key = match &part.from {
                CopyFrom::Nothing => key.text("nothing"),
                CopyFrom::Step(_) => key.text("step"),
                CopyFrom::Files(_) if sources.is_empty() => key.text("inline"),
                CopyFrom::Files(files) => {
                    let digest =
                        self.planner.files_digest(files, &part.selection, span).map_err(|fault| {
                            let missing = fault.word.as_deref().map(clean_path);
                            let named = sources.iter().position(|source| Some(clean_path(source)) == missing);
                            PlanError { word: named.and_then(|at| words.sources.get(at).cloned()), ..fault }
                        })?;
                    key.text("files").digest(&digest)
                }
            };
        }
        let names: Vec<_> = inline.iter().map(|file| file.name.as_str()).collect();
        let mut flags = Vec::new();
        flags.extend(words.parents.then(|| "--parents".to_owned()));
        flags.extend(chown.iter().map(|value| format!("--chown={value}")));
        flags.extend(chmod.iter().map(|value| format!("--chmod={value}")));
        let shown: Vec<_> = sources.iter().map(|source| without_userinfo(source)).collect();
        let created_by = history::copy(words.instruction, &flags, &shown, &names, &destination);
        let op = CopyOp {
            instruction: words.instruction,
            parts,
            inline,
            destination,
            cwd,
            chown,
            chmod,
            link: words.link,
            stage: display_name(self.planner.dockerfile, self.index),
        };
        let own = key.finish();
        if alone {
            self.push_linked(own, Op::Copy(op), instruction, created_by);
        } else {
            self.push(own, Op::Copy(op), instruction, created_by);
        }
        Ok(())
    }

    fn expand_all(&mut self, words: &[String], span: Span) -> Result<Vec<String>, PlanError> {
        words.iter().map(|word| self.expand(word, span)).collect()
    }

    fn inline(&mut self, heredoc: &Heredoc, span: Span) -> Result<Inline, PlanError> {
        let content = if heredoc.expand {
            let scope = &self.state.scope;
            let expanded = expand::expand_heredoc(&heredoc.text(), &|name| scope.get(name))
                .map_err(|error| PlanError::at(span, error.to_string()).with_word(&heredoc.name))?;
            self.note_undefined(&expanded.undefined, span);
            expanded.text
        } else {
            heredoc.text().into_owned()
        };
        Ok(Inline { name: heredoc.name.clone(), content })
    }
}

/// Sorts the sources of an ADD by where they lie, in their order.
fn add_parts(
    add: &Add,
    sources: &[String],
    checksum: Option<&str>,
    span: Span,
) -> Result<Vec<CopyPart>, PlanError> {
    let kinds = sources.iter().map(|source| remote(source, span)).collect::<Result<Vec<_>, _>>()?;
    if checksum.is_some() {
        if sources.len() + add.heredocs.len() > 1 {
            return Err(PlanError::at(span, "checksum can't be specified for multiple sources"));
        }
        if kinds.iter().all(Option::is_none) {
            return Err(PlanError::at(span, "checksum requires HTTP(S) or Git sources"));
        }
    }
    if add.keep_git_dir && !kinds.contains(&Some(Remote::Git)) {
        return Err(PlanError::at(span, "--keep-git-dir requires Git sources"));
    }
    let mut parts: Vec<CopyPart> = Vec::new();
    for (source, kind) in sources.iter().zip(kinds) {
        let exclude = add.exclude.clone();
        let selection = |source: &str| Selection { exclude: exclude.clone(), ..Selection::of([source]) };
        let (from, selection, unpack) = match kind {
            Some(Remote::Git) => {
                let files = FileSource::Git {
                    address: source.clone(),
                    keep_git_dir: add.keep_git_dir,
                    checksum: checksum.map(|text| git_checksum(text, span)).transpose()?,
                };
                (files, selection("."), false)
            }
            Some(Remote::Url) => {
                let checksum = checksum.map(str::parse).transpose().map_err(|error| {
                    PlanError::at(span, format!("--checksum={}: {error}", checksum.unwrap_or_default()))
                        .with_word("--checksum")
                })?;
                let files = FileSource::Http { url: source.clone(), checksum };
                // The one file that is there, whatever its name.
                (files, selection("*"), add.unpack.unwrap_or(false))
            }
            None => {
                let unpack = add.unpack.unwrap_or(true);
                if let Some(CopyPart { from: CopyFrom::Files(FileSource::Context), selection, .. }) =
                    parts.last_mut()
                {
                    selection.sources.push(source.clone());
                    continue;
                }
                (FileSource::Context, selection(source), unpack)
            }
        };
        parts.push(CopyPart { from: CopyFrom::Files(from), selection, unpack });
    }
    Ok(parts)
}

fn git_checksum(text: &str, span: Span) -> Result<String, PlanError> {
    GitAddress::read_checksum(text)
        .map_err(|error| PlanError::at(span, format!("--checksum={text}: {error}")).with_word(text))
}

/// Whether `--chown` needs no account file.
fn is_numeric(chown: &str) -> bool {
    chown.chars().all(|character| character.is_ascii_digit() || character == ':')
}

/// What a source is that is not a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remote {
    Url,
    Git,
}

/// Whether a source is something else than a path.
fn remote(source: &str, span: Span) -> Result<Option<Remote>, PlanError> {
    match GitAddress::parse(source) {
        Err(error) => {
            let shown = without_userinfo(source);
            Err(PlanError::at(span, format!("{shown}: {error}")).with_word(source))
        }
        Ok(Some(_)) => Ok(Some(Remote::Git)),
        Ok(None) => Ok(is_http(source).then_some(Remote::Url)),
    }
}

fn is_http(source: &str) -> bool {
    let lower = source.get(..8).unwrap_or(source).to_ascii_lowercase();
    lower.starts_with("http://") || lower.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_sources() {
        let span = Span { first: 1, last: 1 };
        for (source, want) in [
            ("https://h/x.tar", Some(Remote::Url)),
            ("HTTP://h/x", Some(Remote::Url)),
            ("https://h/x.git#main:sub", Some(Remote::Git)),
            ("git@h:x", Some(Remote::Git)),
            ("github.com/a/b", None),
            ("http", None),
            ("a.git", None),
        ] {
            assert_eq!(remote(source, span).unwrap(), want, "{source}");
        }
        assert!(remote("https://h/x.git#-x", span).is_err());
    }

    #[test]
    fn owners() {
        assert!(is_numeric("1:2") && is_numeric(":3") && !is_numeric("app") && !is_numeric("1:app"));
    }
}
