//! WORKDIR: makes the directories that are missing.

use super::staging::Staging;
use super::{Engine, EngineError, Layer, Needs, State};
use crate::plan::WorkdirOp;

impl Engine {
    /// Makes the working directory, with links on the way followed inside the root.
    ///
    /// # Errors
    ///
    /// Fails where something else than a directory is in the way, and for an unknown user.
    pub fn workdir(&self, op: &WorkdirOp, below: &State, needs: Needs) -> Result<Layer, EngineError> {
        let tree = self.tree(below)?;
        let owner = self.user(below, &tree, &op.user)?;
        let mut staging = Staging::new(&tree, self.file_time());
        let path = staging.resolve(op.path.as_bytes())?;
        staging.make_directories(&path, 0o755, owner)?;
        self.keep(&staging.into_changes(), needs)
    }
}
