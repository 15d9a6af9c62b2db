//! One way that might lead past the gate, as a row of a table.

use std::io;

use serde::{Deserialize, Serialize};

use crate::Order;

/// What a vector does; an error is the kernel's refusal.
pub type Attempt = fn(&Order, i64) -> io::Result<Said>;

/// What a vector says when it was not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// All is sent: whether something arrived is for the canaries to say.
    Sent,
    /// The gate answered.
    Gate,
    /// It got what it must not have.
    Breached(String),
    /// A program or feature that it needs is not there.
    Absent(String),
}

/// As whom a vector is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// An ordinary user without any capability.
    User,
    /// Root with a container's default capabilities, and a container's mounts: its own part of the cgroup tree,
    /// read-only, and no bpffs.
    Root,
    /// The same without CAP_NET_RAW.
    RootNoRaw,
    /// Root with the same capabilities and the mounts of the host: a service of the host without any sandbox.
    Bare,
    /// An ordinary user's command under `callgate run`.
    Run,
    /// Root's command under `callgate run`.
    RunRoot,
    /// Root with all capabilities, outside only: shows that the vector works at all.
    Full,
}

impl Way {
    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Way::User => "user",
            Way::Root => "root",
            Way::RootNoRaw => "root-no-raw",
            Way::Bare => "host-root",
            Way::Run => "run",
            Way::RunRoot => "run-root",
            Way::Full => "full",
        }
    }

    /// Whether it is under `callgate run`.
    pub fn is_run(self) -> bool {
        matches!(self, Way::Run | Way::RunRoot)
    }

    /// The user id it has.
    pub fn uid(self) -> u32 {
        match self {
            Way::User | Way::Run => NOBODY,
            Way::Root | Way::RootNoRaw | Way::Bare | Way::RunRoot | Way::Full => 0,
        }
    }
}

/// The ordinary user. Source: `nobody` on every distribution that we run on.
pub const NOBODY: u32 = 65_534;

/// Which family an attempt goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// It has none.
    Neither,
}

impl Family {
    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "v4",
            Family::V6 => "v6",
            Family::Neither => "",
        }
    }
}

/// By what is told that something got through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A frame to the attempt's own address, or with its nonce, at the canaries: a SYN is enough.
    Address,
    /// A frame with its nonce: the address hears an honest handshake before.
    Nonce,
    /// The vector itself says that it got what it must not have.
    Itself,
}

/// What happens to the agent before the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// Nothing.
    Alive,
    /// It was killed, and is started again afterwards.
    Killed,
    /// It was stopped, until its heartbeat is stale, and goes on afterwards.
    Stopped,
    /// The vector itself ends or stops it.
    Attacked,
}

/// A row.
#[derive(Debug, Clone, Copy)]
pub struct Vector {
    /// Unique: `tcp_connect`.
    pub name: &'static str,
    /// What it does, in one line.
    pub what: &'static str,
    /// Does it.
    pub attempt: Attempt,
    /// A number that tells rows with the same function apart: a port, a protocol, a family.
    pub argument: i64,
    /// Over which families.
    pub families: &'static [Family],
    /// As whom.
    pub ways: &'static [Way],
    /// What counts as through.
    pub proof: Proof,
    /// It needs a willing process outside; what gets through so is `delegated`.
    pub delegated: bool,
    /// It prepares itself before its cgroup is enrolled.
    pub before: bool,
    /// The helper must have a connection to the canary.
    pub connected: bool,
    /// Its enrolment is its own, since it may destroy it.
    pub fresh: bool,
    /// What happens to the agent.
    pub agent: Agent,
}

const BOTH: &[Family] = &[Family::V4, Family::V6];
const EVERYBODY: &[Way] = &[Way::User, Way::Root, Way::RootNoRaw, Way::Run, Way::RunRoot];

impl Vector {
    /// Tried over both families by everybody; any frame to the canary is one too many.
    pub const fn new(name: &'static str, what: &'static str, attempt: Attempt) -> Vector {
        Vector {
            name,
            what,
            attempt,
            argument: 0,
            families: BOTH,
            ways: EVERYBODY,
            proof: Proof::Address,
            delegated: false,
            before: false,
            connected: false,
            fresh: false,
            agent: Agent::Alive,
        }
    }

    /// With an argument.
    pub const fn with(self, argument: i64) -> Vector {
        Vector { argument, ..self }
    }

    /// Over IPv4 alone.
    pub const fn v4(self) -> Vector {
        Vector { families: &[Family::V4], ..self }
    }

    /// Over IPv6 alone.
    pub const fn v6(self) -> Vector {
        Vector { families: &[Family::V6], ..self }
    }

    /// It has no family.
    pub const fn once(self) -> Vector {
        Vector { families: &[Family::Neither], ..self }
    }

    /// By these alone.
    pub const fn by(self, ways: &'static [Way]) -> Vector {
        Vector { ways, ..self }
    }

    /// What is got, not what arrives, is the breach.
    pub const fn judges_itself(self) -> Vector {
        Vector { proof: Proof::Itself, families: &[Family::Neither], ..self }
    }

    /// By its nonce alone.
    pub const fn by_nonce(self) -> Vector {
        Vector { proof: Proof::Nonce, ..self }
    }

    /// Only with help from outside.
    pub const fn delegated(self) -> Vector {
        Vector { delegated: true, proof: Proof::Nonce, ..self }
    }

    /// The helper has a connection.
    pub const fn connected(self) -> Vector {
        Vector { connected: true, ..self }
    }

    /// On an enrolment of its own.
    pub const fn fresh(self) -> Vector {
        Vector { fresh: true, ..self }
    }

    /// Prepared before the enrolment. Under `run` nothing is older than the cgroup.
    pub const fn before(self) -> Vector {
        Vector { before: true, proof: Proof::Nonce, ways: &[Way::User, Way::Root], ..self }
    }

    /// With the agent in this state. `run` is agent and parent at once: its end is the end of the run.
    pub const fn agent(self, agent: Agent) -> Vector {
        Vector { agent, ways: &[Way::User, Way::Root], ..self }
    }
}
