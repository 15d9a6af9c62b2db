//! How the uplink is, for readiness, status and metrics.

use std::time::SystemTime;

/// How the uplink is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UplinkStatus {
    /// What it does.
    pub state: UplinkState,
    /// Whether records flow: the same as [`UplinkState::Connected`].
    pub connected: bool,
    /// Last record that the collector has durably.
    pub acked_seq: u64,
    /// When it last acknowledged some, or agreed on where to go on.
    pub acked_at: Option<SystemTime>,
    /// Records that are on disk here and not acknowledged yet, when this was last looked at.
    pub lag: u64,
    /// Why it is not connected; kept until records flow again.
    pub error: Option<String>,
}

/// What the uplink does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UplinkState {
    /// It tries to reach the collector, or waits to try again.
    Connecting,
    /// Records flow.
    Connected,
    /// The collector and the spool have different histories: an operator must look. Tried again rarely.
    Broken,
    /// It was stopped, or the spool was closed and all of it is shipped.
    Stopped,
}
