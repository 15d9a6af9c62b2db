//! What was decided before of the calls of one connection, so that the same call is not evaluated anew.
//!
//! A decision depends on nothing but the policy set, what is fixed for the connection (workload, process, service,
//! address), the function, the caller and the arguments. Kept are those without the last two, under the hash of their
//! set: the next set finds nothing here, and is asked.

use std::sync::{Mutex, PoisonError};

use callgate_model::{Decision, Function};

/// Decisions kept. Source: ours; a client repeats a few functions on one connection, and looking through more of them
/// takes the time that is to be saved.
const KEPT: usize = 8;

/// The last decisions of one connection.
#[derive(Debug, Default)]
pub struct Known(Mutex<Vec<(Function, Result<Decision, Decision>)>>);

impl Known {
    /// What the set `hash` decided of `function`.
    pub fn get(&self, hash: &str, function: &Function) -> Option<Result<Decision, Decision>> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, judged) = rows.iter().find(|(known, judged)| known == function && set_of(judged) == hash)?;
        Some(judged.clone())
    }

    /// Whether the set `hash` has decided of `function`.
    pub fn holds(&self, hash: &str, function: &Function) -> bool {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter().any(|(known, judged)| known == function && set_of(judged) == hash)
    }

    /// Keeps what was decided of `function`, and forgets the oldest.
    pub fn put(&self, function: &Function, judged: &Result<Decision, Decision>) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.truncate(KEPT - 1);
        rows.insert(0, (function.clone(), judged.clone()));
    }
}

fn set_of(judged: &Result<Decision, Decision>) -> &str {
    match judged {
        Ok(decision) | Err(decision) => &decision.policy_set,
    }
}
