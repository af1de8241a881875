//! The steps that stages begin with: an image's layers, or files that belong to no stage.

use std::sync::Arc;

use fanfold_platforms::Platform;

use super::key::Key;
use super::planner::{Planner, StageState, Stop};
use super::{
    BaseOp, ContextKind, CopyFrom, CopyOp, CopyPart, FileSource, HistoryLine, Op, Origin, PlanError,
    ResolvedImage, StepId, history, stage,
};
use crate::dockerfile::Selection;

impl Planner<'_> {
    /// A stage that begins with an image.
    pub(super) fn on_image(
        &mut self,
        image: &Arc<ResolvedImage>,
        platform: Platform,
        index: usize,
    ) -> StageState {
        let origin = self.origin_of(index, &image.config.config.on_build);
        let tip = self.base(image, platform.clone(), origin);
        super::image::on_image(image, platform, tip)
    }

    /// A stage that begins with what the caller gave a name.
    pub(super) fn on_context(
        &mut self,
        place: usize,
        platform: Platform,
        index: usize,
    ) -> Result<StageState, Stop> {
        let span = self.dockerfile.stages[index].span;
        match &self.request.contexts[place].holds {
            ContextKind::Scratch => Ok(super::image::on_nothing(platform)),
            ContextKind::Image(name) => {
                let name = name.clone();
                let image = self.image(&name, &platform, span)?;
                Ok(self.on_image(&image, platform, index))
            }
            ContextKind::Files => {
                let origin = self.origin_of(index, &[]);
                let files = FileSource::Named(place);
                let tip = self.snapshot(files, ".", "/", platform.clone(), origin)?;
                let mut state = super::image::on_nothing(platform);
                let created_by = history::copy("COPY", &[], &[".".to_owned()], &[], "/");
                state.tip = Some(tip);
                state.history.push(HistoryLine { created_by, layer: Some(tip) });
                Ok(state)
            }
        }
    }

    /// Where the first step of a stage comes from, whose base has left these triggers.
    fn origin_of(&self, index: usize, triggers: &[String]) -> Origin {
        let stage = &self.dockerfile.stages[index];
        Origin {
            stage: stage::display_name(self.dockerfile, index),
            text: stage.text.clone(),
            span: stage.span,
            number: 1,
            of: super::instruction::count_steps(stage, triggers),
        }
    }

    /// The step that makes a layer of files that belong to no stage: a path of theirs, under a name.
    pub(super) fn snapshot(
        &mut self,
        files: FileSource,
        path: &str,
        destination: &str,
        platform: Platform,
        origin: Origin,
    ) -> Result<StepId, PlanError> {
        let selection = Selection::of([escape_pattern(path)]);
        let digest = self.files_digest(&files, &selection, origin.span)?;
        let own = Key::new("snapshot").digest(&digest).text(destination).number(self.request.epoch).finish();
        let op = CopyOp {
            instruction: "COPY",
            parts: vec![CopyPart { from: CopyFrom::Files(files), selection, unpack: false }],
            inline: Vec::new(),
            destination: destination.to_owned(),
            cwd: "/".to_owned(),
            chown: None,
            chmod: None,
            link: true,
            stage: origin.stage.clone(),
        };
        Ok(self.intern(own, Op::Copy(op), None, platform, origin))
    }

    /// The step that takes an image's layers.
    pub(super) fn base(&mut self, image: &Arc<ResolvedImage>, platform: Platform, origin: Origin) -> StepId {
        let own = Key::new("base").digest(&image.manifest.digest).finish();
        self.intern(own, Op::Base(BaseOp { image: Arc::clone(image) }), None, platform, origin)
    }
}

/// A path as a pattern that means this path alone.
fn escape_pattern(path: &str) -> String {
    path.chars().fold(String::new(), |mut pattern, character| {
        if matches!(character, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
        pattern
    })
}
