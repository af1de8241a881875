//! The secrets of a build, by id.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Mask;

/// Values by their ids. Clones share the values.
#[derive(Clone, Default)]
pub struct Secrets {
    values: BTreeMap<String, Arc<[u8]>>,
}

impl Secrets {
    /// Adds a value, in place of an earlier one with the same id.
    pub fn insert(&mut self, id: impl Into<String>, value: impl Into<Arc<[u8]>>) {
        self.values.insert(id.into(), value.into());
    }

    /// The value with this id.
    pub fn get(&self, id: &str) -> Option<&Arc<[u8]>> {
        self.values.get(id)
    }

    /// All ids, in order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// What hides these values in the output of commands.
    pub fn mask(&self) -> Mask {
        Mask::new(self.values.values().map(|value| &**value))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ids()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_never_shown() {
        let mut secrets = Secrets::default();
        secrets.insert("token", *b"hunter2hunter2");
        assert_eq!(secrets.get("token").map(|value| &**value), Some(&b"hunter2hunter2"[..]));
        assert_eq!(secrets.get("other"), None);
        assert_eq!(format!("{secrets:?}"), r#"{"token"}"#);
    }
}
