//! Leaves the machine as it was found.
//!
//! [`Tidy`] holds guards and drops them last first. [`sweep`] removes what test processes left that are gone:
//! every name that the harness gives carries the process id of its owner.

use std::any::Any;
use std::path::Path;

use anyhow::Result;

/// A stack of guards, undone in reverse order, also when the test panics.
#[derive(Default)]
pub struct Tidy {
    kept: Vec<Box<dyn Any + Send>>,
}

impl Tidy {
    /// An empty stack.
    pub fn new() -> Tidy {
        Tidy::default()
    }

    /// Keeps `guard` until the end of this value.
    pub fn keep(&mut self, guard: impl Any + Send) {
        self.kept.push(Box::new(guard));
    }

    /// Calls `undo` when this value is dropped.
    pub fn defer(&mut self, undo: impl FnOnce() + Send + 'static) {
        self.keep(Deferred(Some(Box::new(undo))));
    }
}

impl Drop for Tidy {
    fn drop(&mut self) {
        while let Some(guard) = self.kept.pop() {
            drop(guard);
        }
    }
}

struct Deferred(Option<Box<dyn FnOnce() + Send>>);

impl Drop for Deferred {
    fn drop(&mut self) {
        if let Some(undo) = self.0.take() {
            undo();
        }
    }
}

/// Removes network namespaces, cgroups and mounts of test processes that no longer run; returns what it removed.
///
/// # Errors
/// When something is there and cannot be removed.
pub fn sweep() -> Result<Vec<String>> {
    let mut removed = crate::netns::sweep()?;
    removed.extend(crate::cgroup::sweep()?);
    removed.extend(crate::mount::sweep()?);
    Ok(removed)
}

/// Whether `name` is `<prefix><pid>` or `<prefix><pid>-…` of a process that is gone.
pub(crate) fn is_orphan(name: &str, prefix: &str) -> bool {
    let Some(rest) = name.strip_prefix(prefix) else { return false };
    let pid = rest.split('-').next().unwrap_or_default();
    !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()) && !Path::new("/proc").join(pid).exists()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn undoes_the_last_first_even_after_a_panic() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let seen = order.clone();
        let result = std::panic::catch_unwind(move || {
            let mut tidy = Tidy::new();
            for n in 1..=3 {
                let order = order.clone();
                tidy.defer(move || order.lock().unwrap().push(n));
            }
            panic!("in the middle of a test");
        });
        assert!(result.is_err());
        assert_eq!(*seen.lock().unwrap(), [3, 2, 1]);
    }

    #[test]
    fn knows_orphans_by_their_process_id() {
        let me = std::process::id();
        assert!(!is_orphan(&format!("cgt-{me}-a"), "cgt-"));
        assert!(!is_orphan("cgt-x-a", "cgt-"));
        assert!(!is_orphan("other", "cgt-"));
        // Above the largest process id that Linux gives (2^22).
        assert!(is_orphan("cgt-4999999-a", "cgt-"));
    }
}
