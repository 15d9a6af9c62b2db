//! Asks policy about each call: first whether its service may be connected to, then whether it may go.
//!
//! Everything judged comes from the validated head and from the kernel's record; the head's own claims
//! (Host, absolute form) must agree with what is proven, or the call is refused.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use callgate_identity::callers::Identified;
use callgate_model::{ArgumentsState, CallId, Decision, Function, Obligations, Protocol, Reason, Service, Verdict};
use callgate_policy::{CallPermit, CallRequest, ConnectPermit, ConnectRequest, PolicySet};
use callgate_wire::{Authority, CanonicalPath};
use http::{HeaderMap, Request, Version, header};
use tracing::debug;

use super::grpc;
use super::upload::Upload;
use crate::facts::Connection;
use crate::names::Meant;

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
    /// Host and port as the caller wrote them.
    pub(crate) authority: String,
    /// Without the `?`.
    pub(crate) query: String,
    /// On whose behalf, as a verified token says.
    pub(crate) caller: Option<Identified>,
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

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Reads what `request` asks for.
    pub(crate) fn read<B>(&self, request: &Request<B>) -> Asked {
        let destination = self.connection.origin.destination;
        let mut fault = None;
        let named = named(request, destination.port());
        if !self.scheme_fits(request) {
            fault = Some(Reason::BadHead);
        }
        let service = match (&self.channel, &named) {
            (Channel::Tls(proven), named) => {
                let agrees = |named: &Named| named.host() == proven.host() && named.port() == destination.port();
                if !named.as_ref().is_some_and(agrees) {
                    fault = fault.or(Some(Reason::NameMismatch));
                }
                proven.clone()
            }
            (Channel::Plain, Some(named)) => {
                if named.port() != destination.port() {
                    fault = fault.or(Some(Reason::NameMismatch));
                }
                named.service.clone()
            }
            (Channel::Plain, None) => {
                fault = fault.or(Some(Reason::NameMismatch));
                Service::of_address(destination)
            }
        };
        let is_grpc = grpc::is_call(request);
        let path = match CanonicalPath::parse(request.uri().path()) {
            Ok(path) if !is_grpc || grpc::names_method(&path) => path.to_string(),
            Ok(_) | Err(_) => {
                fault = Some(Reason::BadHead);
                String::new()
            }
        };
        let authority = named.map_or_else(|| service.to_string(), |named| named.text);
        let function = Function {
            protocol: if is_grpc { Protocol::Grpc } else { Protocol::Http },
            service,
            tls: self.channel.is_tls(),
            method: request.method().as_str().to_owned(),
            path,
        };
        Asked { function, authority, query: request.uri().query().unwrap_or("").to_owned(), caller: None, fault }
    }

    /// Whether the scheme is the channel's: HTTP/2 states it in each request, for HTTP/1.1 the scanner has looked.
    fn scheme_fits<B>(&self, request: &Request<B>) -> bool {
        let scheme = if self.channel.is_tls() { "https" } else { "http" };
        request.version() != Version::HTTP_2 || request.uri().scheme_str() == Some(scheme)
    }

    /// Finds out on whose behalf `asked` is: a token that does not verify is a fault, never an anonymous call.
    pub(crate) async fn identify(&self, asked: &mut Asked, headers: &HeaderMap) {
        let issuers = &self.connection.gate.issuers;
        if issuers.is_empty() {
            return;
        }
        match issuers.identify(headers).await {
            Ok(caller) => asked.caller = caller,
            Err(error) => {
                debug!(%error, "a token does not verify");
                asked.fault = asked.fault.or(Some(error.reason()));
            }
        }
    }

    /// Decides `asked`; reads the body first where a rule looks at arguments. In observe mode the call gets its permits
    /// whatever the decision is.
    pub(crate) async fn decide(
        &self,
        call: CallId,
        asked: &mut Asked,
        headers: &HeaderMap,
        body: &mut Upload,
    ) -> Judged {
        let gate = &self.connection.gate;
        let policies = gate.policies.load_full();
        let policies = &*policies;
        let proven = self.prove(policies, asked).await;
        if let Some(fault) = asked.fault {
            let decision = denied(policies, fault);
            let permits = self.observed_permits(policies, call, asked, fault);
            return Judged { decision, permits };
        }
        let connect = self.connect(policies, &asked.function.service);
        let permit = match &*connect {
            Ok(permit) => permit,
            Err(decision) => return Judged { decision: decision.clone(), permits: None },
        };
        if !proven {
            // It was refused a moment ago, by the same policies.
            return Judged { decision: denied(policies, Reason::NameMismatch), permits: None };
        }
        let function = &asked.function;
        let arguments = match function.protocol {
            Protocol::Http if policies.wants_arguments(permit, function) => {
                body.arguments(gate, headers, &asked.query).await
            }
            Protocol::Http | Protocol::Grpc => ArgumentsState::NotRead,
        };
        let caller = asked.caller.as_ref().map(|identified| &*identified.caller);
        match policies.decide_call(&CallRequest { connect: permit, call, function, caller, arguments: &arguments }) {
            Ok(call_permit) => {
                // Observed connects come with a permit, whatever was decided of them.
                let refused = permit.decision().verdict == Verdict::Deny;
                let decision = if refused { permit.decision() } else { call_permit.decision() }.clone();
                Judged { decision, permits: Some((connect, call_permit)) }
            }
            Err(decision) => Judged { decision, permits: None },
        }
    }

    /// Finds out which service `asked` means in plain text, where its name is only the caller's word: one that nothing
    /// proves is a fault. Over TLS the upstream's certificate has proven it. False: it is not proven, as `policies` let
    /// nobody call it wherever it lives.
    async fn prove(&self, policies: &PolicySet, asked: &mut Asked) -> bool {
        if self.channel.is_tls() || asked.fault.is_some() {
            return true;
        }
        let Connection { gate, origin, workload, .. } = &*self.connection;
        let may = |service: &Service| self.connect(policies, service).is_ok();
        let namespace = workload.account().map(|(namespace, _)| namespace);
        match gate.names.meant(&asked.function.service, origin.destination, namespace, may).await {
            Meant::Proven(Cow::Borrowed(_)) => true,
            Meant::Proven(Cow::Owned(meant)) => {
                asked.function.service = meant;
                true
            }
            Meant::Refused(meant) => {
                let meant = meant.into_owned();
                asked.function.service = meant;
                false
            }
            Meant::Unproven => {
                asked.fault = Some(Reason::NameMismatch);
                true
            }
        }
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

/// A service as a request names it.
struct Named {
    service: Service,
    text: String,
}

impl std::ops::Deref for Named {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

/// The service that `request` names, in `:authority` or in Host; none if it names none, or two.
fn named<B>(request: &Request<B>, default_port: u16) -> Option<Named> {
    let read = |text: &str| {
        let service = Authority::parse(text, default_port).ok()?.service;
        Some(Named { service, text: text.to_owned() })
    };
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return None;
    }
    let host = match host {
        Some(host) => Some(read(host.to_str().ok()?)?),
        None => None,
    };
    // In HTTP/1.1 only the absolute form has one, and the scanner has compared it with Host.
    let Some(authority) = request.uri().authority().filter(|_| request.version() == Version::HTTP_2) else {
        return host;
    };
    let authority = read(authority.as_str())?;
    host.is_none_or(|host| host.service == authority.service).then_some(authority)
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
