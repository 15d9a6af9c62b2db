//! Waits for a condition: the one place where a test may look again after a pause.
//!
//! For what has no event to wait on (a file of another process, a counter in the kernel).

use std::time::{Duration, Instant};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Calls `look` until it gives a value.
///
/// # Errors
/// After `within`, with `what` in the message.
pub fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        anyhow::ensure!(start.elapsed() < within, "{what}: not within {within:?}");
        std::thread::sleep(PAUSE);
    }
}
