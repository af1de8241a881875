//! SIGINT, SIGTERM and the end of the build's time: end the build in order; a signal after that ends it at
//! once.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::coordinator::Stop;

/// Listens from now on. The receiver hears of the first signal, or that the time is over.
///
/// # Errors
///
/// Fails where the handlers cannot be installed.
pub(super) fn listen(deadline: Option<Deadline>) -> std::io::Result<watch::Receiver<Option<Stop>>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let number = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = hangup.recv() => SignalKind::hangup().as_raw_value(),
            limit = expired(deadline) => {
                // As below.
                let _ = sender.send(Some(Stop::TimedOut(limit)));
                tokio::select! {
                    _ = interrupt.recv() => leave(128 + SignalKind::interrupt().as_raw_value()),
                    _ = terminate.recv() => leave(128 + SignalKind::terminate().as_raw_value()),
                }
            }
        };
        // Nobody listens any more when the build has just ended.
        let _ = sender.send(Some(Stop::Signal(number)));
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        leave(128 + number);
    });
    Ok(receiver)
}

/// When a build has to be done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    begun: Instant,
    limit: Duration,
}

impl Deadline {
    /// The end of `limit`, from now on.
    pub(super) fn after(limit: Duration) -> Self {
        Self { begun: Instant::now(), limit }
    }
}

/// Waits for the end of the build's time, and gives how long it was; forever, where there is none.
async fn expired(deadline: Option<Deadline>) -> Duration {
    let Some(Deadline { begun, limit }) = deadline else { return std::future::pending().await };
    tokio::time::sleep(limit.saturating_sub(begun.elapsed())).await;
    limit
}

#[expect(clippy::exit, reason = "who asks twice does not want to wait for an orderly end")]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}
