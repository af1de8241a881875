//! COPY and ADD: which files, from where, and what identifies them.

use super::history;
use super::instruction::StageBuilder;
use super::key::Key;
use super::planner::Stop;
use super::stage::{display_name, find};
use super::{CopyFrom, CopyOp, CopyPart, FileSource, Inline, Op, Origin, PlanError, PlanErrorKind};
use crate::dockerfile::{Add, Copy, Heredoc, Instruction, Selection, Span, expand, suggest};

/// What COPY and ADD have in common, before expansion.
struct Words<'a> {
    instruction: &'static str,
    sources: &'a [String],
    destination: &'a str,
    heredocs: &'a [Heredoc],
    chown: Option<&'a str>,
    chmod: Option<&'a str>,
    unpack: bool,
}

impl StageBuilder<'_, '_> {
    pub(super) fn copy(&mut self, copy: &Copy, instruction: &Instruction) -> Result<(), Stop> {
        let span = instruction.span;
        refuse(
            span,
            &[
                (copy.link, "COPY --link"),
                (copy.parents, "COPY --parents"),
                (!copy.exclude.is_empty(), "COPY --exclude"),
            ],
        )?;
        for source in &copy.sources {
            if let Some(kind) = remote_kind(source) {
                return Err(PlanError::at(span, format!("source can't be a {kind} for COPY")).into());
            }
        }
        let from = match &copy.from {
            None => CopyFrom::Files(FileSource::Context),
            Some(name) => self.copy_from(name, span)?,
        };
        self.copy_step(
            &Words {
                instruction: "COPY",
                sources: &copy.sources,
                destination: &copy.destination,
                heredocs: &copy.heredocs,
                chown: copy.chown.as_deref(),
                chmod: copy.chmod.as_deref(),
                unpack: false,
            },
            from,
            instruction,
        )
    }

    pub(super) fn add(&mut self, add: &Add, instruction: &Instruction) -> Result<(), Stop> {
        let span = instruction.span;
        refuse(
            span,
            &[
                (add.link, "ADD --link"),
                (!add.exclude.is_empty(), "ADD --exclude"),
                (add.checksum.is_some(), "ADD --checksum"),
                (add.keep_git_dir, "ADD --keep-git-dir"),
            ],
        )?;
        for source in &add.sources {
            if let Some(kind) = remote_kind(source) {
                return Err(PlanError::unsupported(span, &format!("ADD of a {kind}")).into());
            }
        }
        self.copy_step(
            &Words {
                instruction: "ADD",
                sources: &add.sources,
                destination: &add.destination,
                heredocs: &add.heredocs,
                chown: add.chown.as_deref(),
                chmod: add.chmod.as_deref(),
                unpack: add.unpack.unwrap_or(true),
            },
            CopyFrom::Files(FileSource::Context),
            instruction,
        )
    }

    /// What `--from` names: an earlier stage by name or number, or an image.
    fn copy_from(&mut self, name: &str, span: Span) -> Result<CopyFrom, Stop> {
        if name.contains('$') {
            return Err(PlanError::at(
                span,
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
            )
            .into());
        }
        let dockerfile = self.planner.dockerfile;
        if let Some(stage) = find(dockerfile, name, self.index) {
            let target = self.target.clone();
            let state = self.planner.stage(stage, &target)?;
            return Ok(state.tip.map_or(CopyFrom::Nothing, CopyFrom::Step));
        }
        let own = display_name(dockerfile, self.index);
        if name.parse::<usize>().is_ok() {
            let hint = match self.index {
                0 => "there is no stage before this one".to_owned(),
                count => format!("the stages before this one have the numbers 0 to {}", count - 1),
            };
            return Err(PlanError::at(span, format!("invalid stage index {name}")).with_hint(hint).into());
        }
        if let Some(later) = find(dockerfile, name, dockerfile.stages.len()) {
            let text = if later == self.index {
                format!("circular dependency detected on stage: {own}")
            } else {
                format!(
                    "cannot copy from stage \"{name}\", it needs to be defined before current stage \"{own}\""
                )
            };
            return Err(PlanError::at(span, text).into());
        }
        let platform = self.state.platform.clone();
        let image = self.planner.copy_image(name, &platform, span).map_err(|stop| match stop {
            Stop::Fault(fault) => {
                let stages = dockerfile.stages.iter().filter_map(|stage| stage.name.as_deref());
                match suggest::nearest(name, stages) {
                    Some(known) => Stop::Fault(fault.with_hint(format!("did you mean the stage {known}?"))),
                    None => Stop::Fault(fault),
                }
            }
            Stop::Waiting => Stop::Waiting,
        })?;
        let origin = Origin { stage: own, text: format!("FROM {name}"), span, number: 1, of: 1 };
        if image.layers.is_empty() {
            return Ok(CopyFrom::Nothing);
        }
        Ok(CopyFrom::Step(self.planner.base(&image, platform, origin)))
    }

    fn copy_step(
        &mut self,
        words: &Words<'_>,
        from: CopyFrom,
        instruction: &Instruction,
    ) -> Result<(), Stop> {
        let span = instruction.span;
        let sources =
            words.sources.iter().map(|source| self.expand(source, span)).collect::<Result<Vec<_>, _>>()?;
        let destination = self.expand(words.destination, span)?;
        let chown = words.chown.map(|text| self.expand(text, span)).transpose()?;
        let chmod = words.chmod.map(|text| self.expand(text, span)).transpose()?;
        let inline =
            words.heredocs.iter().map(|heredoc| self.inline(heredoc, span)).collect::<Result<Vec<_>, _>>()?;
        let cwd = self.cwd();

        let mut key = Key::new("copy", self.tip_key().as_ref())
            .text(if words.unpack { "unpack" } else { "keep" })
            .list(sources.iter().map(String::as_str))
            .text(&destination)
            .option((!destination.starts_with('/')).then_some(cwd.as_str()))
            .option(chown.as_deref())
            .option(chmod.as_deref())
            .list(inline.iter().map(|file| file.name.as_str()))
            .list(inline.iter().map(|file| file.content.as_str()))
            .number(self.planner.request.epoch);
        let selection = Selection::of(sources.iter().cloned());
        key = match &from {
            CopyFrom::Nothing => key.text("nothing"),
            CopyFrom::Step(id) => key.text("step").digest(&self.planner.graph.step(*id).key),
            CopyFrom::Files(_) if sources.is_empty() => key.text("inline"),
            CopyFrom::Files(files) => {
                let digest = self.planner.resolver.files_digest(files, &selection).map_err(|error| {
                    let mut fault = PlanError::at(span, error.message).with_kind(PlanErrorKind::Step);
                    fault.hint = error.hint;
                    fault
                })?;
                key.text("context").digest(&digest)
            }
        };
        let names: Vec<_> = inline.iter().map(|file| file.name.as_str()).collect();
        let flags = [("chown", chown.as_deref()), ("chmod", chmod.as_deref())];
        let created_by = history::copy(words.instruction, &flags, &sources, &names, &destination);
        let op = CopyOp {
            instruction: words.instruction,
            parts: vec![CopyPart { from, selection, unpack: words.unpack }],
            inline,
            destination,
            cwd,
            chown,
            chmod,
            link: false,
        };
        self.push(key.finish(), Op::Copy(op), instruction, created_by);
        Ok(())
    }

    fn inline(&mut self, heredoc: &Heredoc, span: Span) -> Result<Inline, PlanError> {
        let content = if heredoc.expand {
            let scope = &self.state.scope;
            let expanded = expand::expand_heredoc(&heredoc.body, &|name| scope.get(name))
                .map_err(|error| PlanError::at(span, error.to_string()))?;
            self.note_undefined(&expanded.undefined, span);
            expanded.text
        } else {
            heredoc.body.clone()
        };
        Ok(Inline { name: heredoc.name.clone(), content })
    }
}

fn refuse(span: Span, flags: &[(bool, &str)]) -> Result<(), PlanError> {
    match flags.iter().find(|(given, _)| *given) {
        Some((_, flag)) => Err(PlanError::unsupported(span, flag)),
        None => Ok(()),
    }
}

/// `URL` or `git ref` where a source is not a path.
fn remote_kind(source: &str) -> Option<&'static str> {
    let git = source.starts_with("git://")
        || source.starts_with("ssh://")
        || source.starts_with("git@")
        || (is_http(source) && source.split(['#', '?']).next().is_some_and(|url| url.ends_with(".git")));
    if git {
        return Some("git ref");
    }
    is_http(source).then_some("URL")
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
        for (source, want) in [
            ("https://h/x.tar", Some("URL")),
            ("HTTP://h/x", Some("URL")),
            ("https://h/x.git#main:sub", Some("git ref")),
            ("git@h:x", Some("git ref")),
            ("github.com/a/b", None),
            ("http", None),
            ("a.git", None),
        ] {
            assert_eq!(remote_kind(source), want, "{source}");
        }
    }
}
