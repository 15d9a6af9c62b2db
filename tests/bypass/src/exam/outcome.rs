//! What came of one vector tried one way.

use serde::{Deserialize, Serialize};

use crate::vector::{Family, Way};

/// One line of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// The vector.
    pub vector: String,
    /// As whom.
    pub way: Way,
    /// Over which family.
    pub family: Family,
    /// What happened meanwhile; empty: nothing.
    pub phase: String,
    /// What came of it.
    pub verdict: Verdict,
    /// The same in words that do not change from run to run.
    pub detail: String,
    /// Whether it is stopped outside of the cgroup too, for want of privileges.
    pub unprivileged: bool,
    /// From the vector's first call to its answer. Unit: microseconds.
    pub latency_us: u64,
    /// What identified it at the canaries and in the records.
    pub nonce: String,
}

/// The kinds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The gate had it, and refused by policy.
    Proxied,
    /// It was refused, or nothing arrived.
    Stopped,
    /// It got through with help from outside.
    Delegated,
    /// It gets through nowhere here.
    NotHere,
    /// It got through, with what no workload has: see [`outside`](crate::outside).
    Outside,
    /// It got through.
    Reached,
}

impl Verdict {
    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Proxied => "proxied",
            Verdict::Stopped => "stopped",
            Verdict::Delegated => "delegated",
            Verdict::NotHere => "not in this kernel",
            Verdict::Outside => "outside the model",
            Verdict::Reached => "REACHED",
        }
    }
}

impl Row {
    /// Whether it fails the exam.
    pub fn fails(&self) -> bool {
        self.verdict == Verdict::Reached
    }

    /// `stopped EACCES`, `outside the model`, `stopped EPERM (as outside)`.
    pub fn shown(&self) -> String {
        let mut text = self.verdict.name().to_owned();
        if !self.detail.is_empty() && self.verdict != Verdict::Proxied {
            text.push_str(&format!(" {}", self.detail));
        }
        if self.unprivileged && self.verdict == Verdict::Stopped {
            text.push_str(" (as outside)");
        }
        text
    }
}

/// `EACCES` for 13.
pub fn errno_name(errno: i32) -> String {
    let text = format!("{:?}", nix::errno::Errno::from_raw(errno));
    if text == "UnknownErrno" { format!("errno {errno}") } else { text }
}
