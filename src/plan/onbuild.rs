//! ONBUILD: instructions that a base has left for the stages on it.

use super::PlanError;
use super::instruction::StageBuilder;
use super::planner::Stop;
use crate::dockerfile::{self, Instruction, Span, parse_trigger};

/// Escape character of triggers that come from an image: nothing says which Dockerfile they stood in.
const ESCAPE: char = '\\';
/// As many characters of a trigger tell it from others.
const MOST_SHOWN: usize = 100;

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

/// A message about an instruction, whose text is `instruction`. The lines that are shown with it do not
/// have a base's trigger, so it is named.
pub(super) fn naming_trigger(instruction: &str, message: String) -> String {
    if !instruction.starts_with("ONBUILD ") {
        return message;
    }
    let line = dockerfile::without_userinfo(instruction.lines().next().unwrap_or_default());
    let mut shown: String = line.chars().take(MOST_SHOWN).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    format!("in the base's trigger `{shown}`: {message}")
}

impl StageBuilder<'_, '_> {
    /// Carries out what the base has left for this stage. It is left once: stages on this one do not
    /// see it.
    pub(super) fn fire_triggers(&mut self) -> Result<(), Stop> {
        let texts = std::mem::take(&mut self.state.config.config.on_build);
        let span = self.planner.dockerfile.stages[self.index].span;
        let triggers = texts.iter().map(|text| trigger(text, span)).collect::<Result<Vec<_>, _>>()?;
        for trigger in &triggers {
            self.trigger = Some(trigger.text.clone());
            let applied = self.apply(trigger);
            self.trigger = None;
            applied.map_err(|stop| match stop {
                // What is wrong with another stage is not the trigger's.
                Stop::Fault(fault) if fault.span == Some(span) => {
                    Stop::Fault(PlanError { message: naming_trigger(&trigger.text, fault.message), ..fault })
                }
                stop => stop,
            })?;
        }
        Ok(())
    }
}
