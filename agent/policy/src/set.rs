//! A policy set that passed every check: immutable, and shared by snapshot.
//!
//! Made by [`compile`](crate::compile) alone; asked by [`decide`](crate::decide).

use std::collections::{HashMap, HashSet};

use aws_lc_rs::digest;
use callgate_model::{Masking, RecordDepth, Service, TlsMode};
use cedar_policy::{
    ActionConstraint, Authorizer, Effect, EntityTypeName, EntityUid, Policy, PolicyId, PrincipalConstraint,
    ResourceConstraint,
};

use crate::arguments::Named;
use crate::entities::Names;
use crate::explain::Place;
use crate::index::{Key, ScopeMap};
use crate::load::service_of_function;

/// Policies that passed every check, ready to decide.
///
/// Immutable: a change makes a new set. Keep the current one where it can be swapped whole.
#[derive(Debug)]
pub struct PolicySet {
    pub(crate) hash: String,
    pub(crate) names: Names,
    pub(crate) authorizer: Authorizer,
    /// What is known of each policy beyond Cedar.
    pub(crate) terms: HashMap<PolicyId, Terms>,
    /// Policies that apply to action `connect`.
    pub(crate) connect: ScopeMap<Slot>,
    /// Policies that apply to action `call`.
    pub(crate) call: ScopeMap<Slot>,
    /// Permits for `call`, by principal and by the service that their scope means: they imply a connect.
    pub(crate) implied: ScopeMap<Vec<PolicyId>>,
    /// The whole set: what the index is checked against.
    #[cfg(test)]
    pub(crate) whole: cedar_policy::PolicySet,
}

/// What is known of a policy beyond Cedar.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// `@mask`.
    pub mask: Masking,
    /// `@record`.
    pub record: Option<RecordDepth>,
    /// `@tls`.
    pub tls: Option<TlsMode>,
    /// Whether the scope names a service, or a function and so its service.
    pub names_service: bool,
    /// Arguments that the conditions name.
    pub arguments: Vec<Named>,
    /// Where it stands.
    pub place: Place,
    /// The namespace whose workloads it is confined to; none: it is not.
    pub namespace: Option<String>,
}

/// Policies of one scope.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub policies: cedar_policy::PolicySet,
    /// Those of them that name arguments, and which.
    pub naming: Vec<(PolicyId, Vec<Named>)>,
}

impl PolicySet {
    /// Policies in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// Whether it has no policy, so that everything is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The first 16 hex digits of the SHA-256 over the names and contents of the files, in the order of their names;
    /// an object of a cluster is a file called `CallPolicy/NAMESPACE/NAME` or `ClusterCallPolicy/NAME`, and a policy of ours
    /// that refuses in place of objects one called by its id.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Files the policies; `None` if Cedar refuses one (two of one id).
    pub(crate) fn build<'a>(
        hash: String,
        names: Names,
        policies: impl Iterator<Item = (&'a Policy, &'a Terms)>,
    ) -> Option<Self> {
        let mut set = Self {
            hash,
            names,
            authorizer: Authorizer::new(),
            terms: HashMap::new(),
            connect: ScopeMap::default(),
            call: ScopeMap::default(),
            implied: ScopeMap::default(),
            #[cfg(test)]
            whole: cedar_policy::PolicySet::new(),
        };
        for (policy, terms) in policies {
            set.file(policy, terms.clone())?;
        }
        Some(set)
    }

    fn file(&mut self, policy: &Policy, mut terms: Terms) -> Option<()> {
        let actions = Actions::of(policy, &self.names);
        let principal = principal_key(&policy.principal_constraint());
        let resource = resource_key(&policy.resource_constraint());
        let namespace = terms.namespace.clone();
        let namespace = namespace.as_deref();
        terms.names_service = resource.is_some();
        #[cfg(test)]
        self.whole.add(policy.clone()).ok()?;
        // A policy whose scope names what never is the principal or the resource would only be asked in vain.
        let possible = can_match(&policy.principal_constraint(), &self.names);
        if possible && actions.connect && resource_can_be(&policy.resource_constraint(), &self.names.service) {
            self.connect.slot(namespace, principal.clone(), resource.clone()).policies.add(policy.clone()).ok()?;
        }
        if possible && actions.call && resource_can_be(&policy.resource_constraint(), &self.names.function) {
            let slot = self.call.slot(namespace, principal.clone(), resource);
            slot.policies.add(policy.clone()).ok()?;
            if !terms.arguments.is_empty() {
                slot.naming.push((policy.id().clone(), terms.arguments.clone()));
            }
            if policy.effect() == Effect::Permit {
                for service in implied_services(&policy.resource_constraint(), &self.names) {
                    self.implied.slot(namespace, principal.clone(), service).push(policy.id().clone());
                }
            }
        }
        self.terms.insert(policy.id().clone(), terms);
        Some(())
    }
}

/// The hash of a set of files, which must be in the order of their names.
pub(crate) fn hash_files(files: &[(&str, &str)]) -> String {
    let mut sha256 = digest::Context::new(&digest::SHA256);
    sha256.update(b"callgate policy set 1\n");
    for text in files.iter().flat_map(|(name, text)| [name, text]) {
        // Lengths first, so that no two sets of files spell the same bytes.
        sha256.update(&(text.len() as u64).to_be_bytes());
        sha256.update(text.as_bytes());
    }
    let hex: String = sha256.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    hex
}

/// Which actions a policy applies to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Actions {
    pub connect: bool,
    pub call: bool,
}

impl Actions {
    pub fn of(policy: &Policy, names: &Names) -> Self {
        let has = |action: &EntityUid| match policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => uid == *action,
            ActionConstraint::In(uids) => uids.contains(action),
        };
        Self { connect: has(&names.connect), call: has(&names.call) }
    }
}

/// The entity that a principal scope names.
pub(crate) fn principal_key(scope: &PrincipalConstraint) -> Key {
    match scope {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) | PrincipalConstraint::IsIn(_, uid) => {
            Some(uid.clone())
        }
    }
}

/// The entity that a resource scope names.
pub(crate) fn resource_key(scope: &ResourceConstraint) -> Key {
    match scope {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => {
            Some(uid.clone())
        }
    }
}

/// Whether a principal scope can match any workload at all.
fn can_match(scope: &PrincipalConstraint, names: &Names) -> bool {
    match scope {
        PrincipalConstraint::Any | PrincipalConstraint::In(_) => true,
        PrincipalConstraint::Eq(uid) => *uid.type_name() == names.workload,
        PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) => *kind == names.workload,
    }
}

/// Whether a resource scope can match an entity of type `kind`, which is `Service` or `Function`.
fn resource_can_be(scope: &ResourceConstraint, kind: &EntityTypeName) -> bool {
    match scope {
        // What is in a service is a service or a function; what is in a function is that function.
        ResourceConstraint::Any | ResourceConstraint::In(_) => true,
        ResourceConstraint::Eq(uid) => uid.type_name() == kind,
        ResourceConstraint::Is(is) | ResourceConstraint::IsIn(is, _) => is == kind,
    }
}

/// The services whose functions a permit for `call` can match, by its scope: `[None]` for any, `[]` for none.
fn implied_services(scope: &ResourceConstraint, names: &Names) -> HashSet<Key> {
    let any = || HashSet::from([None]);
    let within = |uid: &EntityUid| -> HashSet<Key> {
        if *uid.type_name() == names.service {
            return HashSet::from([Some(uid.clone())]);
        }
        if *uid.type_name() != names.function {
            return HashSet::new();
        }
        let services: Vec<Service> = service_of_function(uid.id().unescaped());
        services.iter().map(|service| Some(names.endpoint(service))).collect()
    };
    match scope {
        ResourceConstraint::Any => any(),
        ResourceConstraint::Is(kind) if *kind == names.function => any(),
        ResourceConstraint::Is(_) => HashSet::new(),
        ResourceConstraint::In(uid) => within(uid),
        ResourceConstraint::IsIn(kind, uid) if *kind == names.function => within(uid),
        ResourceConstraint::IsIn(..) => HashSet::new(),
        ResourceConstraint::Eq(uid) if *uid.type_name() == names.function => within(uid),
        ResourceConstraint::Eq(_) => HashSet::new(),
    }
}
