//! What is refused in place of policies that should be in force and cannot be.
//!
//! A forbid that is missing while permits stay would let calls out, so the workloads whose policies are not whole make
//! none. Others' decisions never look at it, as at no policy of a namespace.

use std::fmt;

use cedar_policy::{Policy, PolicyId};

use crate::explain::Place;
use crate::set::Terms;

/// Refuses every pod of a cluster: pods are what is in a namespace.
pub const NO_PODS: &str = "forbid (principal, action, resource) unless { principal.namespace == \"\" };";
/// Refuses every workload that is asked about it.
const NOBODY: &str = "forbid (principal, action, resource);";

/// A namespace, or all of them, whose calls are refused.
///
/// Its [`Display`](fmt::Display) is the id of the policy that refuses them: a sentence, which no object can have as an
/// id, since those begin with the object's name and a slash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Closed {
    /// The namespace; none: all pods, since ClusterCallPolicies are concerned.
    pub namespace: Option<String>,
    /// Which bound its objects are over; none: they are within bounds, but nothing of one of them can be in force.
    pub over: Option<String>,
}

impl Closed {
    /// What follows of it, for people.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        match self.namespace {
            Some(_) => "all calls of its workloads are refused",
            None => "all calls of pods are refused",
        }
    }

    /// Whether workloads of `namespace` are concerned; none: those of no single one.
    #[must_use]
    pub fn concerns(&self, namespace: Option<&str>) -> bool {
        self.namespace.is_none() || self.namespace.as_deref() == namespace
    }

    /// The policy that refuses, and its text.
    pub(crate) fn policy(&self) -> Option<(Policy, Terms, &'static str)> {
        let text = if self.namespace.is_some() { NOBODY } else { NO_PODS };
        let id = self.to_string();
        let policy = Policy::parse(Some(PolicyId::new(&id)), text).ok()?;
        let place = Place { file: id, line: 1, last: 1 };
        Some((policy, Terms { place, namespace: self.namespace.clone(), ..Terms::default() }, text))
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("policies of ")?;
        match &self.namespace {
            Some(namespace) => write!(f, "namespace {namespace}")?,
            None => f.write_str("the cluster")?,
        }
        f.write_str(if self.over.is_some() { " are over their bound" } else { " cannot be in force" })
    }
}
