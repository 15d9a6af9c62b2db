//! CallPolicy and ClusterCallPolicy: the policies that the cluster's API holds.
//!
//! [`PolicyObjects`] is what was listed last, kept by [`follow_policies`]; [`bounds`] says how much of it is taken,
//! [`pace`] how often.
//! What they say is judged by `callgate-policy` alone, in the agents and in the controller alike.

mod bounds;
mod follow;
mod object;
mod pace;

use std::collections::BTreeMap;

use callgate_policy::Origin;
use tokio::sync::watch;

pub use bounds::{NAMESPACE_MAX, OBJECTS_MAX, TOTAL_MAX, within_bounds};
pub use follow::follow_policies;
pub use object::{Accepted, Kind, Past, PolicyObject, Status};
pub use pace::Pace;

/// Objects by what names them.
pub type ByOrigin = BTreeMap<Origin, PolicyObject>;

/// The objects of both kinds, as they were listed last.
#[derive(Debug, Default)]
pub struct PolicyObjects {
    known: watch::Sender<[Option<ByOrigin>; 2]>,
}

impl PolicyObjects {
    /// Wakes its holder whenever something has changed.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<[Option<ByOrigin>; 2]> {
        self.known.subscribe()
    }

    /// All objects, by kind and name; none while not both kinds have been listed.
    #[must_use]
    pub fn all(&self) -> Option<Vec<PolicyObject>> {
        match &*self.known.borrow() {
            [Some(cluster), Some(namespaced)] => Some(cluster.values().chain(namespaced.values()).cloned().collect()),
            _ => None,
        }
    }

    /// Every object of a kind.
    pub(crate) fn replace(&self, kind: Kind, objects: ByOrigin) {
        self.change(kind, |known| {
            let same = known.as_ref() == Some(&objects);
            *known = Some(objects);
            !same
        });
    }

    /// An object is new, or changed.
    pub(crate) fn put(&self, kind: Kind, object: PolicyObject) {
        self.change(kind, |known| {
            let Some(known) = known else { return false };
            let same = known.get(&object.origin) == Some(&object);
            known.insert(object.origin.clone(), object);
            !same
        });
    }

    /// An object is gone.
    pub(crate) fn remove(&self, kind: Kind, origin: &Origin) {
        self.change(kind, |known| known.as_mut().is_some_and(|known| known.remove(origin).is_some()));
    }

    /// The API knows no such kind: there is nothing of it, unless there was something before, which stays.
    pub(crate) fn without(&self, kind: Kind) {
        self.change(kind, |known| {
            let first = known.is_none();
            known.get_or_insert_default();
            first
        });
    }

    fn change(&self, kind: Kind, change: impl FnOnce(&mut Option<ByOrigin>) -> bool) {
        self.known.send_if_modified(|[cluster, namespaced]| {
            change(match kind {
                Kind::Cluster => cluster,
                Kind::Namespaced => namespaced,
            })
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(namespace: &str, text: &str) -> PolicyObject {
        PolicyObject {
            origin: Origin::Namespace { namespace: namespace.into(), name: "web".into() },
            uid: "u".into(),
            generation: 1,
            text: Ok(text.into()),
            status: Status::default(),
        }
    }

    #[test]
    fn nothing_is_known_before_both_kinds_are_listed() {
        let objects = PolicyObjects::default();
        objects.replace(Kind::Namespaced, [object("a", "x")].map(|object| (object.origin.clone(), object)).into());
        assert_eq!(objects.all(), None);
        objects.without(Kind::Cluster);
        assert_eq!(objects.all(), Some(vec![object("a", "x")]));
        // A kind that is gone takes away nothing.
        objects.without(Kind::Namespaced);
        assert_eq!(objects.all(), Some(vec![object("a", "x")]));
    }

    #[test]
    fn only_what_changes_wakes() {
        let objects = PolicyObjects::default();
        let mut watch = objects.watch();
        objects.without(Kind::Cluster);
        objects.without(Kind::Namespaced);
        assert!(watch.has_changed().unwrap());
        watch.mark_unchanged();
        objects.put(Kind::Namespaced, object("a", "x"));
        assert!(watch.has_changed().unwrap());
        watch.mark_unchanged();
        objects.put(Kind::Namespaced, object("a", "x"));
        objects.remove(Kind::Namespaced, &object("b", "x").origin);
        assert!(!watch.has_changed().unwrap());
        objects.remove(Kind::Namespaced, &object("a", "x").origin);
        assert!(watch.has_changed().unwrap());
        assert_eq!(objects.all(), Some(Vec::new()));
    }
}
