//! Identifiers, one newtype each, so that no two can be confused.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id: UUID version 7, so ids sort by time of creation.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "an id that appears by default would be a bug")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError)
            }
        }
    };
}

/// A text that is no id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("an id looks like `019ab0d4-8a51-7000-8000-5d1f7e3c2a10`; `audit search` and `session list` show them")]
pub struct IdError;

uuid_id!(
    /// One call; joins its `begin`, its chunks and its `end`. Also the event id that a refusal shows.
    CallId
);
uuid_id!(
    /// One TCP connection of a workload.
    ConnectionId
);
uuid_id!(
    /// One session: every call under one `callgate run`, or of one process elsewhere.
    SessionId
);

/// Names one hash chain: an agent on a node, or one `callgate run`.
///
/// Shape: `NODE/agent` or `NODE/run-ID`; printable ASCII without spaces.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub String);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A cgroup's id: the inode of its directory in cgroup v2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CgroupId(pub u64);

impl fmt::Display for CgroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A network namespace's cookie (`SO_NETNS_COOKIE`): unique per boot, never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetnsCookie(pub u64);
