//! Asks policy about each call: first whether its service may be connected to, then whether it may go.
//!
//! Everything judged comes from the validated head and from the kernel's record; the head's own claims
//! (Host, absolute form) must agree with what is proven, or the call is refused.

use std::sync::{Arc, Mutex, PoisonError};

use callgate_model::{ArgumentsState, CallId, Decision, Function, Obligations, Protocol, Reason, Service, Verdict};
use callgate_policy::{CallPermit, CallRequest, ConnectPermit, ConnectRequest, PolicySet};
use callgate_wire::{Authority, CanonicalPath};
use http::{Request, header};

use crate::facts::Connection;

/// What the calls of a connection travel in.
#[derive(Clone, Debug)]
pub(crate) enum Channel {
    /// Plain text: each call names its service, which our own resolution must prove.
    Plain,
    /// TLS that we opened: the service that was judged before, proven by the upstream's certificate.
    Tls(Service),
}

impl Channel {
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

/// A connect decision: the permit, or why there is none.
pub(crate) type Connect = Arc<Result<ConnectPermit, Decision>>;

/// What a request asks for.
pub(crate) struct Asked {
    pub(crate) function: Function,
    /// Without the `?`.
    pub(crate) query: String,
    /// A fault that decides before policy is asked.
    pub(crate) fault: Option<Reason>,
}

/// What was decided of a call.
pub(crate) struct Judged {
    pub(crate) decision: Decision,
    /// Both permits, unless the call is refused.
    pub(crate) permits: Option<(Connect, CallPermit)>,
}

/// Judges the calls of one connection.
pub(crate) struct Judge {
    connection: Arc<Connection>,
    channel: Channel,
    last: Mutex<Option<(Service, String, Connect)>>,
}

impl Judge {
    pub(crate) fn new(connection: Arc<Connection>, channel: Channel) -> Self {
        Self { connection, channel, last: Mutex::new(None) }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.channel.is_tls()
    }

    /// Reads what `request` asks for.
    pub(crate) fn read<B>(&self, request: &Request<B>) -> Asked {
        let destination = self.connection.origin.destination;
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let named =
            host.and_then(|host| Authority::parse(host, destination.port()).ok().map(|authority| authority.service));
        let mut fault = None;
        let service = match (&self.channel, named) {
            (Channel::Tls(proven), named) => {
                if named.is_none_or(|named| named.host() != proven.host() || named.port() != destination.port()) {
                    fault = Some(Reason::NameMismatch);
                }
                proven.clone()
            }
            (Channel::Plain, Some(named)) => {
                if named.port() != destination.port() {
                    fault = Some(Reason::NameMismatch);
                }
                named
            }
            (Channel::Plain, None) => {
                fault = Some(Reason::NameMismatch);
                Service::of_address(destination)
            }
        };
        let path = match CanonicalPath::parse(request.uri().path()) {
            Ok(path) => path.to_string(),
            Err(_) => {
                fault = Some(Reason::BadHead);
                String::new()
            }
        };
        let function = Function {
            protocol: Protocol::Http,
            service,
            tls: self.channel.is_tls(),
            method: request.method().as_str().to_owned(),
            path,
        };
        Asked { function, query: request.uri().query().unwrap_or("").to_owned(), fault }
    }

    /// Decides `asked`. In observe mode the call gets its permits whatever the decision is.
    pub(crate) async fn decide(&self, call: CallId, asked: &Asked) -> Judged {
        let policies = self.connection.gate.policies.load_full();
        let policies = &*policies;
        if let Some(fault) = self.fault(asked).await {
            let decision = denied(policies, fault);
            let permits = self.observed_permits(policies, call, asked, fault);
            return Judged { decision, permits };
        }
        let connect = self.connect(policies, &asked.function.service);
        let permit = match &*connect {
            Ok(permit) => permit,
            Err(decision) => return Judged { decision: decision.clone(), permits: None },
        };
        let request = CallRequest {
            connect: permit,
            call,
            function: &asked.function,
            caller: None,
            arguments: &ArgumentsState::NotRead,
        };
        match policies.decide_call(&request) {
            Ok(call_permit) => {
                // Observed connects come with a permit, whatever was decided of them.
                let refused = permit.decision().verdict == Verdict::Deny;
                let decision = if refused { permit.decision() } else { call_permit.decision() }.clone();
                Judged { decision, permits: Some((connect, call_permit)) }
            }
            Err(decision) => Judged { decision, permits: None },
        }
    }

    /// A fault of the request or of its name, before policy is asked.
    async fn fault(&self, asked: &Asked) -> Option<Reason> {
        if asked.fault.is_some() {
            return asked.fault;
        }
        let plain = !self.channel.is_tls();
        let destination = self.connection.origin.destination;
        if plain && !self.connection.gate.names.proven(&asked.function.service, destination).await {
            return Some(Reason::NameMismatch);
        }
        None
    }

    /// Observe mode refuses nothing, but what cannot be forwarded faithfully stays refused.
    fn observed_permits(
        &self,
        policies: &PolicySet,
        call: CallId,
        asked: &Asked,
        fault: Reason,
    ) -> Option<(Connect, CallPermit)> {
        if !self.connection.observes() || fault == Reason::BadHead {
            return None;
        }
        let connect = self.connect(policies, &asked.function.service);
        let permit = match &*connect {
            Ok(permit) => {
                let (caller, arguments) = (None, &ArgumentsState::NotRead);
                let request = CallRequest { connect: permit, call, function: &asked.function, caller, arguments };
                policies.decide_call(&request).ok()?
            }
            Err(_) => return None,
        };
        Some((connect, permit))
    }

    /// The connect decision for `service`, asked once for each policy set.
    pub(crate) fn connect(&self, policies: &PolicySet, service: &Service) -> Connect {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, set, answer)) = &*last
            && known == service
            && set == policies.hash()
        {
            return Arc::clone(answer);
        }
        let answer = decide_connect(&self.connection, policies, service, self.channel.is_tls());
        *last = Some((service.clone(), policies.hash().to_owned(), Arc::clone(&answer)));
        answer
    }
}

/// Decides whether `connection` may connect to `service`, and notes it for the connection's record.
pub(crate) fn decide_connect(connection: &Connection, policies: &PolicySet, service: &Service, tls: bool) -> Connect {
    let destination = connection.origin.destination;
    let request = ConnectRequest {
        connection: connection.id,
        workload: &connection.workload,
        groups: &[],
        process: &connection.process,
        service,
        destination,
        address_declared: connection.gate.names.declared().holds(service, destination.ip()),
        tls,
        sni: if tls && service.address().is_none() { service.host() } else { "" },
    };
    let answer = policies.decide_connect(&request);
    let decision = match &answer {
        Ok(permit) => permit.decision(),
        Err(decision) => decision,
    };
    connection.judged(service, decision);
    Arc::new(answer)
}

/// A denial that policy was not asked about.
pub(crate) fn denied(policies: &PolicySet, reason: Reason) -> Decision {
    Decision {
        verdict: Verdict::Deny,
        reason,
        policies: Vec::new(),
        policy_set: policies.hash().to_owned(),
        obligations: Obligations::default(),
    }
}
