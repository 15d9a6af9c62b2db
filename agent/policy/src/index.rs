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
#[derive(Debug)]
pub struct ScopeMap<T> {
    by_principal: HashMap<Key, HashMap<Key, T>>,
}

impl<T> Default for ScopeMap<T> {
    fn default() -> Self {
        Self { by_principal: HashMap::new() }
    }
}

impl<T: Default> ScopeMap<T> {
    /// The slot for a scope, made if need be.
    pub fn slot(&mut self, principal: Key, resource: Key) -> &mut T {
        self.by_principal.entry(principal).or_default().entry(resource).or_default()
    }
}

impl<T> ScopeMap<T> {
    /// Every slot that a request can match. The keys are those of the request: `None`, the entity, its ancestors;
    /// each once.
    pub fn matching<'a>(&'a self, principals: &'a [Key], resources: &'a [Key]) -> impl Iterator<Item = &'a T> {
        principals
            .iter()
            .filter_map(|principal| self.by_principal.get(principal))
            .flat_map(move |by_resource| resources.iter().filter_map(|resource| by_resource.get(resource)))
    }
}
