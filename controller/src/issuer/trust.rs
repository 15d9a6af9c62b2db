//! The CA in use, for the others of this process.

use std::sync::Arc;

use callgate_mtls::Authority;
use tokio::sync::watch;

/// The CA, once there is one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trust {
    current: Arc<watch::Sender<Option<Arc<Authority>>>>,
}

impl Default for Trust {
    fn default() -> Self {
        Self { current: Arc::new(watch::Sender::new(None)) }
    }
}

impl Trust {
    /// The CA in use; waits for the first.
    pub async fn get(&self) -> Arc<Authority> {
        let mut current = self.current.subscribe();
        loop {
            if let Some(authority) = current.borrow_and_update().clone() {
                return authority;
            }
            // Cannot fail: we hold the sender.
            let _ = current.changed().await;
        }
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.current.borrow().is_some()
    }

    pub(super) fn set(&self, authority: Arc<Authority>) {
        self.current.send_replace(Some(authority));
    }
}
