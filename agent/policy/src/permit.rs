//! Proofs that policy allowed something. Only this crate makes them.

use std::net::SocketAddr;

use callgate_model::{CallId, ConnectionId, Decision, Function, Mode, Service, TlsMode};

use crate::entities::Subject;

/// Policy allows this connection to go upstream.
///
/// It cannot be made outside of this crate, nor copied:
/// ```compile_fail
/// fn forge(permit: &callgate_policy::ConnectPermit) -> callgate_policy::ConnectPermit {
///     permit.clone()
/// }
/// ```
#[derive(Debug)]
pub struct ConnectPermit {
    pub(crate) decision: Decision,
    pub(crate) observed: bool,
    pub(crate) explicit: bool,
    pub(crate) connection: ConnectionId,
    pub(crate) service: Service,
    pub(crate) destination: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) mode: Mode,
    /// What every call on this connection shares, made once.
    pub(crate) subject: Subject,
}

impl ConnectPermit {
    /// What policy said; in observe mode the verdict may be a would-be denial.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Whether the verdict is a denial that observe mode only records.
    #[must_use]
    pub fn observed(&self) -> bool {
        self.observed
    }

    /// Whether a permit for `connect` itself matched, not only a permit for calls to the service.
    #[must_use]
    pub fn explicit(&self) -> bool {
        self.explicit
    }

    /// Whether bytes of a protocol that is not decoded may pass: by an explicit permit, or because nothing is refused.
    #[must_use]
    pub fn may_pass_undecoded(&self) -> bool {
        self.explicit || self.mode == Mode::Observe
    }

    /// Whether TLS must be passed through unopened.
    #[must_use]
    pub fn passthrough(&self) -> bool {
        self.decision.obligations.tls == TlsMode::Passthrough
    }

    /// The connection that it is for.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The service that it is for.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// The address that may be dialled, and no other.
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// Whether the connection was judged as TLS.
    #[must_use]
    pub fn tls(&self) -> bool {
        self.tls
    }
}

/// Policy allows this one call. It is used up by forwarding the call.
#[derive(Debug)]
pub struct CallPermit {
    pub(crate) decision: Decision,
    pub(crate) observed: bool,
    pub(crate) connection: ConnectionId,
    pub(crate) call: CallId,
    pub(crate) function: Function,
}

impl CallPermit {
    /// What policy said, obligations included; in observe mode the verdict may be a would-be denial.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Whether the verdict is a denial that observe mode only records.
    #[must_use]
    pub fn observed(&self) -> bool {
        self.observed
    }

    /// The connection that carries the call.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The call that it is for.
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }

    /// The function that was judged: these very bytes are the ones to forward.
    #[must_use]
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// Uses the permit up; what is left is what audit keeps of it.
    #[must_use]
    pub fn into_decision(self) -> Decision {
        self.decision
    }
}
