//! Signals at the end of a run, when CMD is gone and its last records are shipped.
//!
//! The first one says what is waited for; the second one ends the waiting. What is not shipped then, the next run ships.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::child::is_ignored;

/// Exit codes of commands that a signal ended start here. Source: POSIX shells.
const SIGNALLED: u8 = 128;

/// Ctrl-C and SIGTERM, from [`Interrupts::catch`] on.
#[derive(Debug)]
pub struct Interrupts {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl Interrupts {
    /// Catches both, unless they are ignored: scripts rely on that for their background jobs.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn catch() -> Result<Self> {
        let one = |kind: SignalKind| -> Result<Option<Signal>> {
            if is_ignored(kind) {
                return Ok(None);
            }
            Ok(Some(signal(kind).context("cannot catch signals")?))
        };
        Ok(Self { interrupt: one(SignalKind::interrupt())?, terminate: one(SignalKind::terminate())? })
    }

    /// Does `work`, which takes `bound` at most. A second signal drops it.
    ///
    /// # Errors
    /// The exit code of a command that the second signal ended: 130 or 143.
    pub async fn unless_twice<T>(mut self, bound: Duration, work: impl Future<Output = T>) -> Result<T, u8> {
        let mut work = std::pin::pin!(work);
        let mut told = false;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                code = self.next() => {
                    if told {
                        return Err(code);
                    }
                    told = true;
                    let bound = bound.as_secs();
                    eprintln!("callgate: the last records are being shipped, {bound} s at most; again to end at once");
                }
            }
        }
    }

    /// The exit code that the next signal stands for.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            () = caught(&mut self.interrupt) => SIGNALLED + 2,
            () = caught(&mut self.terminate) => SIGNALLED + 15,
        }
    }
}

async fn caught(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            // None comes only when the runtime ends, and with it this future.
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
