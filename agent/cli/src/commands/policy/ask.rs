//! Asks a set of policies about a call that nobody makes: one of a case, or one that was recorded.
//!
//! The proxy's own way from bytes to a decision, without a proxy: the same readers, the same requests.

use std::net::SocketAddr;

use callgate_model::{
    ArgumentsState, CallId, Caller, ConnectionId, Decision, Function, Masking, Mode, Process, Protocol, Reason,
    Service, Verdict, Workload,
};
use callgate_policy::{CallRequest, ConnectPermit, ConnectRequest, PolicySet, Weighed};

/// Who asks, and from where to where.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) workload: Workload,
    pub(super) groups: Vec<String>,
    pub(super) process: Process,
    pub(super) service: Service,
    pub(super) destination: SocketAddr,
    pub(super) address_declared: bool,
    pub(super) tls: bool,
    pub(super) caller: Option<Caller>,
    /// What is called; none: the connection alone.
    pub(super) function: Option<Function>,
    pub(super) arguments: ArgumentsState,
}

/// What a set says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) decision: Decision,
    /// Every policy whose scope matches.
    pub(super) weighed: Vec<Weighed>,
}

impl Question {
    /// The answer of `set`, enforced or not; none if the question could not be put.
    pub(super) fn put(&self, set: &PolicySet) -> Option<Answer> {
        // Observe mode gives a permit whatever the verdict, so that a denied connect is no end of the questions.
        let workload = Workload { mode: Mode::Observe, ..self.workload.clone() };
        let host = self.service.host();
        let connect = set.decide_connect(&ConnectRequest {
            connection: ConnectionId::new(),
            workload: &workload,
            groups: &self.groups,
            process: &self.process,
            service: &self.service,
            destination: self.destination,
            address_declared: self.address_declared,
            tls: self.tls,
            sni: if self.tls && self.service.address().is_none() { host } else { "" },
        });
        let connect = connect.ok()?;
        let refused = connect.decision().verdict == Verdict::Deny;
        match &self.function {
            Some(function) if !refused => self.put_call(set, &connect, function),
            _ => {
                let weighed = set.weigh_connect(&connect, &self.service)?;
                Some(Answer { decision: connect.decision().clone(), weighed })
            }
        }
    }

    fn put_call(&self, set: &PolicySet, connect: &ConnectPermit, function: &Function) -> Option<Answer> {
        let (caller, arguments) = (self.caller.as_ref(), &self.arguments);
        let request = CallRequest { connect, call: CallId::new(), function, caller, arguments };
        let mut decision = set.decide_call(&request).map_or_else(|denied| denied, |permit| permit.into_decision());
        // As the proxy does: messages of gRPC are not opened, so a promise to mask them could not be kept.
        let promised = decision.verdict == Verdict::Allow && decision.obligations.mask != Masking::default();
        if promised && function.protocol == Protocol::Grpc {
            decision = Decision { verdict: Verdict::Deny, reason: Reason::Unmaskable, ..decision };
        }
        Some(Answer { decision, weighed: set.weigh_call(&request)? })
    }
}
