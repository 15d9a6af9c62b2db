//! The decisions: deny by default, forbid wins, any evaluation error denies.
//!
//! `connect` is implied by a permit for `call` whose scope matches the workload and the service (its conditions speak
//! of the function and so cannot be asked yet); a forbid on `connect` still wins. Private, link-local and metadata
//! addresses need a permit that names the service, or a service that the config declares.

use std::collections::BTreeSet;

use callgate_model::{ArgumentsState, Decision, Function, Mode, Obligations, Reason, TlsMode, Verdict};
use cedar_policy::{AuthorizationError, Decision as CedarDecision, Entities, Entity, EntityUid, PolicyId, Request};

use crate::address::AddressClass;
use crate::entities::{Subject, Unbuildable};
use crate::set::{PolicySet, Slot, Terms};
use crate::{CallPermit, CallRequest, ConnectPermit, ConnectRequest};

impl PolicySet {
    /// Decides whether a connection may go upstream.
    ///
    /// A workload in observe mode gets its permit whatever the verdict, which the permit then holds as a would-be
    /// decision: see [`ConnectPermit::observed`].
    ///
    /// # Errors
    /// The denying [`Decision`]: [`Reason::EvaluationError`], [`Reason::Forbidden`], [`Reason::NoPermit`],
    /// [`Reason::AddressNotNamed`]; or [`Reason::Internal`], in observe mode too, if the request could not be built.
    pub fn decide_connect(&self, request: &ConnectRequest<'_>) -> Result<ConnectPermit, Decision> {
        let Ok(subject) = Subject::new(&self.names, request) else { return Err(self.deny(Reason::Internal, [])) };
        let mode = request.workload.mode;
        let (decision, explicit) = match self.judge_connect(request, &subject) {
            Ok((decision, explicit)) => (decision, explicit),
            Err(decision) if mode == Mode::Observe && decision.reason != Reason::Internal => (decision, false),
            Err(decision) => return Err(decision),
        };
        Ok(ConnectPermit {
            observed: decision.verdict == Verdict::Deny,
            decision,
            explicit,
            connection: request.connection,
            service: request.service.clone(),
            destination: request.destination,
            tls: request.tls,
            mode,
            subject,
        })
    }

    /// Whether rules that can match this call name arguments: then a decision needs them, and without them denies.
    ///
    /// Asked before the body is read, so that bodies are held back only where a rule looks at them.
    #[must_use]
    pub fn wants_arguments(&self, connect: &ConnectPermit, function: &Function) -> bool {
        if connect.subject.known.holds(&self.hash, function) {
            return false;
        }
        let (_, resources) = connect.subject.resource(&self.names, function);
        self.call
            .matching(&connect.subject.namespace, &connect.subject.principals, &resources)
            .any(|slot| !slot.naming.is_empty())
    }

    /// Decides whether a call may go upstream.
    ///
    /// On a connection of a workload in observe mode the permit is given whatever the verdict, which it then holds as
    /// a would-be decision: see [`CallPermit::observed`].
    ///
    /// # Errors
    /// The denying [`Decision`]: [`Reason::ArgumentsUnfit`] if a rule whose scope matches names arguments and these are
    /// not complete, or there as another kind; [`Reason::EvaluationError`], [`Reason::Forbidden`],
    /// [`Reason::NoPermit`]; or, in observe mode too, [`Reason::NameMismatch`] if the function is not of the connection's service, and
    /// [`Reason::Internal`] if the request could not be built.
    pub fn decide_call(&self, request: &CallRequest<'_>) -> Result<CallPermit, Decision> {
        let CallRequest { connect, call, function, .. } = *request;
        if function.service != connect.service || function.tls != connect.tls {
            return Err(self.deny(Reason::NameMismatch, []));
        }
        let decision = match self.judge_call(request) {
            Ok(decision) => decision,
            Err(decision) if connect.mode == Mode::Observe && decision.reason != Reason::Internal => decision,
            Err(decision) => return Err(decision),
        };
        Ok(CallPermit {
            observed: decision.verdict == Verdict::Deny,
            decision,
            connection: connect.connection,
            call,
            function: function.clone(),
        })
    }

    /// The decision to allow and whether it is explicit, or the denial.
    fn judge_connect(&self, request: &ConnectRequest<'_>, subject: &Subject) -> Result<(Decision, bool), Decision> {
        let (cedar, entities) =
            subject.connect(&self.names, request.service).map_err(|Unbuildable| self.deny(Reason::Internal, []))?;
        let slots: Vec<&Slot> =
            self.connect.matching(&subject.namespace, &subject.principals, &subject.services).collect();
        let explicit = self.ask(&slots, &cedar, &entities)?;
        let implied: BTreeSet<PolicyId> = self
            .implied
            .matching(&subject.namespace, &subject.principals, &subject.services)
            .flatten()
            .cloned()
            .collect();

        // Each kind has to name the address by itself: a broad permit for undecoded bytes is not made to reach a
        // private address because some call to it is permitted too.
        let open = request.address_declared || !AddressClass::of(request.destination.ip()).must_be_named();
        let reaches = |permits: &BTreeSet<PolicyId>| {
            !permits.is_empty() && (open || self.terms_of(permits).any(|terms| terms.names_service))
        };
        if reaches(&explicit) {
            let tls = tls_mode(self.terms_of(&explicit));
            return Ok((self.allow(&explicit, Obligations { tls, ..Obligations::default() }), true));
        }
        if reaches(&implied) {
            return Ok((self.allow(&implied, Obligations::default()), false));
        }
        let nothing = explicit.is_empty() && implied.is_empty();
        Err(self.deny(if nothing { Reason::NoPermit } else { Reason::AddressNotNamed }, []))
    }

    fn judge_call(&self, request: &CallRequest<'_>) -> Result<Decision, Decision> {
        let CallRequest { function, caller, .. } = *request;
        let subject = &request.connect.subject;
        if let Some(judged) = subject.known.get(&self.hash, function, caller) {
            return judged;
        }
        let (resource, keys) = subject.resource(&self.names, function);
        let slots: Vec<&Slot> = self.call.matching(&subject.namespace, &subject.principals, &keys).collect();
        let judged = self.judge_slots(request, &resource, &slots);
        if slots.iter().all(|slot| slot.naming.is_empty()) {
            subject.known.put(function, caller, &judged);
        }
        judged
    }

    fn judge_slots(
        &self,
        request: &CallRequest<'_>,
        resource: &EntityUid,
        slots: &[&Slot],
    ) -> Result<Decision, Decision> {
        let subject = &request.connect.subject;
        let maps = self.argument_maps(slots, request.arguments)?;
        let (cedar, entities) = subject
            .call(&self.names, (request.function, resource), request.caller, maps)
            .map_err(|Unbuildable| self.deny(Reason::Internal, []))?;
        let permits = self.ask(slots, &cedar, &entities)?;
        if permits.is_empty() {
            return Err(self.deny(Reason::NoPermit, []));
        }
        let mut obligations = Obligations::default();
        let mut depth = None;
        for terms in self.terms_of(&permits) {
            obligations.mask = obligations.mask.union(&terms.mask);
            depth = depth.max(terms.record);
        }
        obligations.record = depth.unwrap_or_default();
        Ok(self.allow(&permits, obligations))
    }

    /// The maps that the policies of `slots` name; a denial if the arguments do not fit one of them.
    fn argument_maps(&self, slots: &[&Slot], state: &ArgumentsState) -> Result<Vec<Entity>, Decision> {
        let naming = || slots.iter().flat_map(|slot| &slot.naming);
        if naming().next().is_none() {
            return Ok(Vec::new());
        }
        let ArgumentsState::Complete(arguments) = state else {
            return Err(self.deny(Reason::ArgumentsUnfit, naming().map(|(policy, _)| policy)));
        };
        let unfit = || naming().filter(|(_, named)| !named.iter().all(|named| named.fits(arguments)));
        if unfit().next().is_some() {
            return Err(self.deny(Reason::ArgumentsUnfit, unfit().map(|(policy, _)| policy)));
        }
        let maps = self.names.maps.build(naming().flat_map(|(_, named)| named), arguments);
        maps.map_err(|Unbuildable| self.deny(Reason::Internal, []))
    }

    /// The permits that hold, possibly none; a denial if a forbid holds or a policy fails.
    fn ask(&self, slots: &[&Slot], request: &Request, entities: &Entities) -> Result<BTreeSet<PolicyId>, Decision> {
        let (mut permits, mut forbids, mut failed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for slot in slots {
            let response = self.authorizer.is_authorized(request, &slot.policies, entities);
            let reasons = match response.decision() {
                CedarDecision::Allow => &mut permits,
                CedarDecision::Deny => &mut forbids,
            };
            reasons.extend(response.diagnostics().reason().cloned());
            failed.extend(response.diagnostics().errors().map(|error| match error {
                AuthorizationError::PolicyEvaluationError(error) => error.policy_id().clone(),
            }));
        }
        // Cedar skips a policy that fails, a forbid too: so a failure is a denial here.
        if !failed.is_empty() {
            return Err(self.deny(Reason::EvaluationError, &failed));
        }
        if !forbids.is_empty() {
            return Err(self.deny(Reason::Forbidden, &forbids));
        }
        Ok(permits)
    }

    fn terms_of<'a>(&'a self, ids: &'a BTreeSet<PolicyId>) -> impl Iterator<Item = &'a Terms> {
        ids.iter().filter_map(|id| self.terms.get(id))
    }

    fn allow(&self, policies: &BTreeSet<PolicyId>, obligations: Obligations) -> Decision {
        Decision {
            verdict: Verdict::Allow,
            reason: Reason::Permitted,
            policies: sorted(policies),
            policy_set: self.hash.clone(),
            obligations,
        }
    }

    fn deny<'a>(&self, reason: Reason, policies: impl IntoIterator<Item = &'a PolicyId>) -> Decision {
        Decision {
            verdict: Verdict::Deny,
            reason,
            policies: sorted(policies),
            policy_set: self.hash.clone(),
            obligations: Obligations::default(),
        }
    }
}

/// `@tls` over the determining policies: whoever says `inspect` wins, then whoever says `passthrough`.
fn tls_mode<'a>(terms: impl Iterator<Item = &'a Terms>) -> TlsMode {
    let mut mode = TlsMode::Inspect;
    for terms in terms {
        match terms.tls {
            Some(TlsMode::Inspect) => return TlsMode::Inspect,
            Some(TlsMode::Passthrough) => mode = TlsMode::Passthrough,
            None => {}
        }
    }
    mode
}

fn sorted<'a>(policies: impl IntoIterator<Item = &'a PolicyId>) -> Vec<String> {
    let mut ids: Vec<String> = policies.into_iter().map(|id| AsRef::<str>::as_ref(id).to_owned()).collect();
    ids.sort();
    ids
}
