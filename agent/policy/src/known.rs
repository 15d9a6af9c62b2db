//! What was decided before of the calls of one connection, so that the same call is not evaluated anew.
//!
//! A decision depends on nothing but the policy set, what is fixed for the connection (workload, process, service,
//! address), the function, the caller and the arguments. Kept are those without arguments, under function, caller and the
//! hash of their set: the next set finds nothing here, and is asked.

use std::sync::{Mutex, PoisonError};

use callgate_model::{Caller, Decision, Function};

/// Decisions kept. Source: ours; a client repeats a few functions on one connection, and looking through more of them
/// takes the time that is to be saved.
const KEPT: usize = 8;

/// The last decisions of one connection.
#[derive(Debug, Default)]
pub struct Known(Mutex<Vec<Row>>);

#[derive(Debug)]
struct Row {
    function: Function,
    caller: Option<Caller>,
    judged: Result<Decision, Decision>,
}

impl Known {
    /// What the set `hash` decided of `function`, called on behalf of `caller`.
    pub fn get(&self, hash: &str, function: &Function, caller: Option<&Caller>) -> Option<Result<Decision, Decision>> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = rows.iter().find(|row| row.caller.as_ref() == caller && row.is_of(hash, function))?;
        Some(row.judged.clone())
    }

    /// Whether the set `hash` has decided of `function`, on whoever's behalf: then arguments had no part in it.
    pub fn holds(&self, hash: &str, function: &Function) -> bool {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter().any(|row| row.is_of(hash, function))
    }

    /// Keeps what was decided, and forgets the oldest.
    pub fn put(&self, function: &Function, caller: Option<&Caller>, judged: &Result<Decision, Decision>) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.truncate(KEPT - 1);
        let row = Row { function: function.clone(), caller: caller.cloned(), judged: judged.clone() };
        rows.insert(0, row);
    }
}

impl Row {
    fn is_of(&self, hash: &str, function: &Function) -> bool {
        self.function == *function && set_of(&self.judged) == hash
    }
}

fn set_of(judged: &Result<Decision, Decision>) -> &str {
    match judged {
        Ok(decision) | Err(decision) => &decision.policy_set,
    }
}
