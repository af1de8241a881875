//! Ends of a build that come from outside.

use std::time::Duration;

use tokio::sync::watch;

use super::{BuildError, ErrorKind};
use crate::progress;

/// What more time would bring.
const MORE_TIME: &str =
    "give it more time with --timeout, or build again: steps that were done are not done anew";

/// Why a build is to end before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// This signal has come.
    Signal(i32),
    /// It has taken as long as it may.
    TimedOut(Duration),
}

impl Stop {
    /// The failure that it makes of a build; `doing` says what the build was at.
    pub fn error(self, doing: &str) -> BuildError {
        match self {
            Self::Signal(signal) => {
                BuildError::new(ErrorKind::Interrupted(signal), "the build was interrupted")
            }
            Self::TimedOut(limit) => {
                let limit = progress::human::duration(limit);
                let text = format!("the build took longer than the {limit} of --timeout, {doing}");
                BuildError::new(ErrorKind::Retryable, text).with_hint(MORE_TIME)
            }
        }
    }
}

/// Waits until a build is to end; forever, where nobody can say so any more.
pub async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    loop {
        if let Some(stop) = *stop.borrow_and_update() {
            return stop;
        }
        if stop.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
