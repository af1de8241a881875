//! Puts instructions into stages, and checks what stands beside what.

use std::collections::HashSet;

use super::ast::{Instruction, Kind, Span, Stage, Warning};
use super::from::From;
use super::syntax_error::SyntaxError;

/// The stages found so far.
#[derive(Debug, Default)]
pub(super) struct Stages {
    preamble: Vec<Instruction>,
    stages: Vec<Stage>,
    names: HashSet<String>,
    /// The last CMD, ENTRYPOINT and HEALTHCHECK of the current stage.
    last: [Option<Span>; 3],
}

impl Stages {
    /// Begins a stage.
    pub(super) fn begin(&mut self, from: From, span: Span, text: String, warnings: &mut Vec<Warning>) {
        self.last = [None; 3];
        if let Some(name) = &from.name {
            let mut warn = |rule, message| warnings.push(Warning { rule, message, span });
            if matches!(name.as_str(), "scratch" | "context") {
                warn(
                    "ReservedStageName",
                    format!("Stage name should not use the same name as reserved stage \"{name}\""),
                );
            }
            if !self.names.insert(name.clone()) {
                warn(
                    "DuplicateStageName",
                    format!("Duplicate stage name \"{name}\", stage names should be unique"),
                );
            }
        }
        self.stages.push(Stage {
            name: from.name,
            base: from.base,
            platform: from.platform,
            span,
            text,
            description: from.description,
            instructions: Vec::new(),
        });
    }

    /// Adds an instruction to the current stage, or an ARG to those before the first stage.
    pub(super) fn add(
        &mut self,
        instruction: Instruction,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), SyntaxError> {
        let Some(stage) = self.stages.last_mut() else {
            if !matches!(instruction.kind, Kind::Arg(_)) {
                return Err(SyntaxError::on_line(
                    instruction.span.first,
                    "no build stage in current context",
                ));
            }
            self.preamble.push(instruction);
            return Ok(());
        };
        let single = match instruction.kind {
            Kind::Cmd(_) => Some((0, "CMD")),
            Kind::Entrypoint(_) => Some((1, "ENTRYPOINT")),
            Kind::Healthcheck(_) => Some((2, "HEALTHCHECK")),
            _ => None,
        };
        if let Some((index, name)) = single
            && let Some(span) = self.last[index].replace(instruction.span)
        {
            warnings.push(Warning {
                rule: "MultipleInstructionsDisallowed",
                message: format!(
                    "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
                ),
                span,
            });
        }
        stage.instructions.push(instruction);
        Ok(())
    }

    /// Gives back the instructions before the first stage, and the stages, of which there is one at
    /// least.
    pub(super) fn finish(self, last_line: u32) -> Result<(Vec<Instruction>, Vec<Stage>), SyntaxError> {
        if !self.stages.is_empty() {
            return Ok((self.preamble, self.stages));
        }
        Err(match self.preamble.last() {
            Some(last) => SyntaxError::on_line(last.span.first, "dockerfile contains no stages to build"),
            None => SyntaxError::on_line(last_line, "file with no instructions"),
        })
    }
}
