//! ONBUILD: instructions that a base has left for the stages on it.

use super::PlanError;
use super::instruction::StageBuilder;
use super::planner::Stop;
use crate::dockerfile::{Instruction, Span, parse_trigger};

/// Escape character of triggers that come from an image: nothing says which Dockerfile they stood in.
const ESCAPE: char = '\\';

/// The instruction that a trigger's text is, standing at `span`.
///
/// # Errors
///
/// Fails for a text that is not one instruction.
pub(super) fn trigger(text: &str, span: Span) -> Result<Instruction, PlanError> {
    let instruction = parse_trigger(text, ESCAPE).map_err(|error| {
        PlanError::at(span, format!("the base's ONBUILD trigger `{text}`: {}", error.full_message()))
            .with_hint("have the base built again without it, or use another base")
    })?;
    Ok(Instruction { span, text: format!("ONBUILD {}", instruction.text), ..instruction })
}

impl StageBuilder<'_, '_> {
    /// Carries out what the base has left for this stage. It is left once: stages on this one do not
    /// see it.
    pub(super) fn fire_triggers(&mut self) -> Result<(), Stop> {
        let texts = std::mem::take(&mut self.state.config.config.on_build);
        let span = self.planner.dockerfile.stages[self.index].span;
        let triggers = texts.iter().map(|text| trigger(text, span)).collect::<Result<Vec<_>, _>>()?;
        self.fired = true;
        triggers.iter().try_for_each(|trigger| self.apply(trigger))?;
        self.fired = false;
        Ok(())
    }
}
