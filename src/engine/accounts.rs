//! The accounts of a stage, for `--chown` and WORKDIR.

use std::io::Read;

use super::{Engine, EngineError, State, StepFailure};
use crate::image::Accounts;
use crate::layer::{EntryKind, LayerPath, Tree};

/// Longer account files are no account files.
const LARGEST: u64 = 1 << 20;

impl Engine {
    /// Reads `/etc/passwd` and `/etc/group` of a stack.
    pub(super) fn accounts(&self, state: &State, tree: &Tree) -> Result<Accounts, EngineError> {
        let passwd = self.account_file(state, tree, b"etc/passwd")?;
        let group = self.account_file(state, tree, b"etc/group")?;
        Ok(Accounts::new(passwd, group))
    }

    /// Owner of what is made in the name of USER text: as for `--chown`, a number alone is its own
    /// group.
    pub(super) fn user(&self, state: &State, tree: &Tree, text: &str) -> Result<(u32, u32), EngineError> {
        if text.is_empty() {
            return Ok((0, 0));
        }
        let accounts = self.accounts(state, tree)?;
        let owner = accounts.owner(text);
        Ok(owner.map_err(|source| StepFailure::Account { what: format!("USER {text}"), source })?)
    }

    fn account_file(&self, state: &State, tree: &Tree, name: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let resolved = tree.resolve(name, &LayerPath::root(), true)?;
        if resolved.node.is_none() {
            return Ok(None);
        }
        let shown = String::from_utf8_lossy(name);
        let Some(file) = tree.file(&resolved.path) else {
            return Err(StepFailure::refused(format!("/{shown} of the image is not a regular file")).into());
        };
        let EntryKind::File { size } = file.entry.kind else {
            return Err(StepFailure::refused(format!("/{shown} of the image is not a regular file")).into());
        };
        if size > LARGEST {
            return Err(StepFailure::refused(format!("/{shown} of the image is larger than 1 MiB")).into());
        }
        let contents = self.contents(state, [(file.layer, file.path.clone())])?;
        let mut bytes = Vec::new();
        contents
            .get(file.layer, &file.path)?
            .open()?
            .take(LARGEST)
            .read_to_end(&mut bytes)
            .map_err(EngineError::io("read the image's account files"))?;
        Ok(Some(bytes))
    }
}
