//! SIGINT and SIGTERM: end the build in order; a second one ends it at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Listens from now on. The receiver changes to the number of the first signal.
///
/// # Errors
///
/// Fails where the handlers cannot be installed.
pub(super) fn listen() -> std::io::Result<watch::Receiver<Option<i32>>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let number = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = hangup.recv() => SignalKind::hangup().as_raw_value(),
        };
        // Nobody listens any more when the build has just ended.
        let _ = sender.send(Some(number));
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        leave(128 + number);
    });
    Ok(receiver)
}

#[expect(clippy::exit, reason = "who asks twice does not want to wait for an orderly end")]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}

/// Waits for the first signal; forever, where nobody listens any more.
pub(super) async fn wait(interrupted: &mut watch::Receiver<Option<i32>>) -> i32 {
    loop {
        if let Some(number) = *interrupted.borrow_and_update() {
            return number;
        }
        if interrupted.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
