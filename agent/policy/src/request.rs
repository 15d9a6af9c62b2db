//! What is asked: may this workload connect there, may it make this call.

use std::net::SocketAddr;

use callgate_model::{ArgumentsState, CallId, Caller, ConnectionId, Function, Process, Service, Workload};

use crate::ConnectPermit;

/// A connection that a workload wants to open.
#[derive(Clone, Copy, Debug)]
pub struct ConnectRequest<'a> {
    /// The connection: the permit is good for no other.
    pub connection: ConnectionId,
    /// Who connects.
    pub workload: &'a Workload,
    /// Groups that the config puts the workload in.
    pub groups: &'a [String],
    /// The process that connects, as attested.
    pub process: &'a Process,
    /// The judged name (proven later in the handshake, or already by resolution) and port.
    pub service: &'a Service,
    /// The address that was dialled.
    pub destination: SocketAddr,
    /// Whether the config declares `service` at `destination`: then a private address needs no policy that names it.
    pub address_declared: bool,
    /// Whether the first bytes are a TLS ClientHello.
    pub tls: bool,
    /// The name that it asked for; empty if none.
    pub sni: &'a str,
}

/// A call that a workload wants to make on a connection that was permitted.
///
/// Workload, process and address are those of the connection, so that they cannot be mixed up.
#[derive(Clone, Copy, Debug)]
pub struct CallRequest<'a> {
    /// The connection's permit. Its service must be the function's.
    pub connect: &'a ConnectPermit,
    /// The call: the permit is good for no other.
    pub call: CallId,
    /// What is called.
    pub function: &'a Function,
    /// On whose behalf, if a token was sent and verified.
    pub caller: Option<&'a Caller>,
    /// What is known of its arguments. [`ArgumentsState::NotRead`] will do unless
    /// [`wants_arguments`](crate::PolicySet::wants_arguments) says otherwise.
    pub arguments: &'a ArgumentsState,
}
