//! One test on the real kernel, as a line of a table.

use std::time::Duration;

/// Longest time that a case may take unless it says otherwise. Source: the slowest takes 20 s on 2 cores.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What a case does; an error or a panic fails it.
pub type CaseRun = fn() -> anyhow::Result<()>;

/// One test.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Named after behaviour: `refuses_when_the_agent_is_dead`.
    pub name: &'static str,
    /// Names of the [`FEATURES`](crate::FEATURES) without which it cannot run.
    pub needs: &'static [&'static str],
    /// What it does.
    pub run: CaseRun,
    /// It measures time or needs the processor: no other case runs beside it.
    pub alone: bool,
    /// When it is given up.
    pub timeout: Duration,
}

impl Case {
    /// A case that needs nothing but root and cgroup2.
    pub const fn new(name: &'static str, run: CaseRun) -> Case {
        Case { name, needs: &[], run, alone: false, timeout: TIMEOUT }
    }

    /// The same, needing these features.
    pub const fn needs(self, needs: &'static [&'static str]) -> Case {
        Case { needs, ..self }
    }

    /// The same, with no other case beside it.
    pub const fn alone(self) -> Case {
        Case { alone: true, ..self }
    }

    /// The same, given up after `timeout`.
    pub const fn within(self, timeout: Duration) -> Case {
        Case { timeout, ..self }
    }
}
