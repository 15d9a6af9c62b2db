//! Why a call is decided as it is: every policy that its scope brought into question, and what came of each.
//!
//! For people, at their own pace: [`decide`](crate::decide) is what holds.

use callgate_model::{Arguments, ArgumentsState, Service};
use cedar_policy::{Effect, Entities, EntityUid, Policy, Request};

use crate::entities::Unbuildable;
use crate::set::{PolicySet, Slot};
use crate::{CallRequest, ConnectPermit};

/// Where a policy stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Name of the file.
    pub file: String,
    /// Its first line, annotations included, from 1.
    pub line: usize,
    /// Its last line.
    pub last: usize,
}

/// What came of one policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// Its conditions hold.
    Holds,
    /// Its scope matches, its conditions do not hold.
    ConditionFalse,
    /// Its conditions could not be evaluated, so the call is denied.
    Fails,
    /// It names arguments that are not known for certain, or of another kind, so the call is denied.
    ArgumentsUnfit,
}

/// A policy whose scope matches, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Weighed {
    /// Id of the policy.
    pub policy: String,
    /// Whether it permits; else it forbids.
    pub permits: bool,
    /// What came of it.
    pub weight: Weight,
}

impl PolicySet {
    /// Where the policy `id` stands; none if the set has no such policy.
    #[must_use]
    pub fn place(&self, id: &str) -> Option<&Place> {
        self.terms.get(&cedar_policy::PolicyId::new(id)).map(|terms| &terms.place)
    }

    /// Every policy for `call` whose scope matches, each weighed alone, in the order of their ids.
    ///
    /// None if the request could not be expressed.
    #[must_use]
    pub fn weigh_call(&self, request: &CallRequest<'_>) -> Option<Vec<Weighed>> {
        self.try_weigh(request).ok()
    }

    /// Every policy for `connect` whose scope matches, each weighed alone, in the order of their ids.
    ///
    /// None if the request could not be expressed.
    #[must_use]
    pub fn weigh_connect(&self, connect: &ConnectPermit, service: &Service) -> Option<Vec<Weighed>> {
        let subject = &connect.subject;
        let question = subject.connect(&self.names, service).ok()?;
        let slots = self.connect.matching(&subject.namespace, &subject.principals, &subject.services);
        Some(self.weigh(slots, &question, &ArgumentsState::Complete(Arguments::new())))
    }

    fn try_weigh(&self, request: &CallRequest<'_>) -> Result<Vec<Weighed>, Unbuildable> {
        let subject = &request.connect.subject;
        let (resource, keys): (EntityUid, _) = subject.resource(&self.names, request.function);
        let slots: Vec<&Slot> = self.call.matching(&subject.namespace, &subject.principals, &keys).collect();
        let maps = match request.arguments {
            ArgumentsState::Complete(arguments) => {
                let named = slots.iter().flat_map(|slot| &slot.naming).flat_map(|(_, named)| named);
                self.names.maps.build(named, arguments)?
            }
            _ => Vec::new(),
        };
        let question = subject.call(&self.names, (request.function, &resource), request.caller, maps)?;
        Ok(self.weigh(slots.into_iter(), &question, request.arguments))
    }

    fn weigh<'a>(
        &self,
        slots: impl Iterator<Item = &'a Slot>,
        question: &(Request, Entities),
        arguments: &ArgumentsState,
    ) -> Vec<Weighed> {
        let mut weighed = Vec::new();
        for slot in slots {
            let fits = |policy: &Policy| {
                let named = slot.naming.iter().filter(|(id, _)| id == policy.id()).flat_map(|(_, named)| named);
                match arguments {
                    ArgumentsState::Complete(arguments) => named.into_iter().all(|named| named.fits(arguments)),
                    _ => named.into_iter().next().is_none(),
                }
            };
            for policy in slot.policies.policies() {
                let weight = if fits(policy) { self.ask_one(policy, question) } else { Weight::ArgumentsUnfit };
                let permits = policy.effect() == Effect::Permit;
                weighed.push(Weighed { policy: policy.id().to_string(), permits, weight });
            }
        }
        weighed.sort_by(|a, b| a.policy.cmp(&b.policy));
        weighed
    }

    fn ask_one(&self, policy: &Policy, (request, entities): &(Request, Entities)) -> Weight {
        let mut alone = cedar_policy::PolicySet::new();
        if alone.add(policy.clone()).is_err() {
            return Weight::Fails;
        }
        let response = self.authorizer.is_authorized(request, &alone, entities);
        let (mut reasons, mut errors) = (response.diagnostics().reason(), response.diagnostics().errors());
        match (errors.next(), reasons.next()) {
            (Some(_), _) => Weight::Fails,
            (None, Some(_)) => Weight::Holds,
            (None, None) => Weight::ConditionFalse,
        }
    }
}
