//! SIGINT, SIGTERM and SIGHUP as a flag: whatever waits ends soon, and what was started is stopped.
//! The second signal ends the program at once; the system then kills its children.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Somebody asked the program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Listens from now on.
///
/// # Errors
/// The system refuses.
pub fn listen() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let guard = runtime.enter();
    let mut streams = kinds.map(signal).into_iter().collect::<Result<Vec<_>, _>>()?;
    drop(guard);
    let watch = move || {
        runtime.block_on(async {
            let [interrupt, terminate, hangup] = streams.as_mut_slice() else { return };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if ASKED.swap(true, Ordering::SeqCst) {
                    std::process::exit(130);
                }
            }
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch).context("cannot start a thread")?;
    Ok(())
}

/// Whether the program was asked to end.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Goes on, unless the program was asked to end.
///
/// # Errors
/// It was.
pub fn check() -> Result<(), Interrupted> {
    if asked() { Err(Interrupted) } else { Ok(()) }
}
