//! Finds the policies whose scope can match, by principal and resource, so that the rest are never evaluated.
//!
//! Sorting policies into slots by what their scope names is exact for `==` and `in`: a policy that names an entity
//! can match only if that entity is the request's own or one of its ancestors. Within a slot Cedar decides alone.
//! Property-tested against the whole set in [`set`](crate::set).

use std::collections::HashMap;

use cedar_policy::EntityUid;

/// The entity that a scope names; none if it names none and so can match any.
pub type Key = Option<EntityUid>;

/// Values filed by the principal and the resource that a scope names.
///
/// Those of a namespace are filed apart, and found for its own workloads alone: whatever such a policy says, it is not
/// so much as looked at for anybody else. A condition added to each would say the same and could be got wrong: it
/// leaves a policy in sight whose arguments or errors deny a call of others.
#[derive(Debug)]
pub struct ScopeMap<T> {
    everybodys: ByPrincipal<T>,
    of_namespace: HashMap<String, ByPrincipal<T>>,
}

type ByPrincipal<T> = HashMap<Key, HashMap<Key, T>>;

impl<T> Default for ScopeMap<T> {
    fn default() -> Self {
        Self { everybodys: HashMap::new(), of_namespace: HashMap::new() }
    }
}

impl<T: Default> ScopeMap<T> {
    /// The slot for a scope, made if need be; that of a namespace, if the policy is confined to one.
    pub fn slot(&mut self, namespace: Option<&str>, principal: Key, resource: Key) -> &mut T {
        let by_principal = match namespace {
            None => &mut self.everybodys,
            Some(namespace) => self.of_namespace.entry(namespace.to_owned()).or_default(),
        };
        by_principal.entry(principal).or_default().entry(resource).or_default()
    }
}

impl<T> ScopeMap<T> {
    /// Every slot that a request can match. The keys are those of the request: `None`, the entity, its ancestors;
    /// each once. `namespace` is the workload's; empty: it is in none.
    pub fn matching<'a>(
        &'a self,
        namespace: &str,
        principals: &'a [Key],
        resources: &'a [Key],
    ) -> impl Iterator<Item = &'a T> {
        std::iter::once(&self.everybodys)
            .chain(self.of_namespace.get(namespace))
            .flat_map(|by_principal| principals.iter().filter_map(|principal| by_principal.get(principal)))
            .flat_map(move |by_resource| resources.iter().filter_map(|resource| by_resource.get(resource)))
    }
}
