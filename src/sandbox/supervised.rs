//! Whether commands can be supervised, as the rungs need that cannot give them ids of their own.

use super::isolation::Isolation;

/// Tries out on a child what `isolation` has a supervisor do.
///
/// # Errors
///
/// Says what does not work.
pub(super) fn probe(isolation: Isolation) -> Result<(), String> {
    Err(format!("no supervisor for {isolation} is part of this program"))
}
