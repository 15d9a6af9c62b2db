//! How much policy one namespace may hold, and all of them: so that none crowds out another's.
//!
//! Judged by what objects say now, which every agent and the controller see alike; what was in force of an object
//! stands in for it as far as there is room beside that.
//! Of a namespace that is over a bound nothing is taken, and the compiler closes it: nobody knows which of its objects
//! its workloads could do without.

use std::collections::BTreeMap;

use callgate_policy::{Offer, PolicyText};

use super::{Past, PolicyObject};

/// Most text of one namespace, and of the ClusterCallPolicies together. Unit: bytes.
/// Source: ours; it is room for some thousand policies.
pub const NAMESPACE_MAX: usize = 1 << 20;
/// Most objects of one namespace, and of ClusterCallPolicies.
pub const OBJECTS_MAX: usize = 256;
/// Most text of all. Unit: bytes. Source: what a directory may hold.
pub const TOTAL_MAX: usize = 16 << 20;

/// The objects of one namespace, or the ClusterCallPolicies.
#[derive(Default)]
struct Share {
    places: Vec<usize>,
    bytes: usize,
}

impl Share {
    /// Why it is not taken, where `total` is taken already.
    fn over(&self, namespace: Option<&str>, total: usize) -> Option<String> {
        let what = match namespace {
            Some(namespace) => format!("the CallPolicies of namespace `{namespace}`"),
            None => "the ClusterCallPolicies".to_owned(),
        };
        if self.places.len() > OBJECTS_MAX {
            Some(format!("{what} are more than {OBJECTS_MAX}"))
        } else if self.bytes > NAMESPACE_MAX {
            Some(format!("{what} are over {NAMESPACE_MAX} bytes together"))
        } else if total + self.bytes > TOTAL_MAX {
            Some(format!("the policies of all namespaces are over {TOTAL_MAX} bytes, and {what} among the largest"))
        } else {
            None
        }
    }
}

/// The offers of `objects`, in their order; `past` tells what is known of one from before.
///
/// ClusterCallPolicies come first, then whichever namespace holds least: so the large ones are the first to find no
/// room, and a small one is crowded out by none of them.
#[must_use]
pub fn within_bounds<'a>(objects: &'a [PolicyObject], past: impl Fn(&'a PolicyObject) -> Past<'a>) -> Vec<Offer> {
    let mut offers: Vec<Offer> = objects.iter().map(|object| object.offer(past(object))).collect();
    let mut shares: BTreeMap<Option<&str>, Share> = BTreeMap::new();
    for (place, (object, offer)) in objects.iter().zip(&offers).enumerate() {
        let share = shares.entry(object.origin.namespace()).or_default();
        share.places.push(place);
        share.bytes += match (object.origin.namespace(), &offer.last) {
            // What the cluster says holds for all: there is room for what was in force of it, too.
            (None, Some(last)) => offer.text.bytes().max(last.bytes()),
            _ => offer.text.bytes(),
        };
    }
    let mut shares: Vec<(Option<&str>, Share)> = shares.into_iter().collect();
    // Stable: by name where they hold as much.
    shares.sort_by_key(|(namespace, share)| (namespace.is_some(), share.bytes));

    let mut total = 0;
    shares.retain(|(namespace, share)| match share.over(*namespace, total) {
        None => {
            total += share.bytes;
            true
        }
        Some(why) => {
            for &place in &share.places {
                offers[place] = Offer::over(objects[place].origin.clone(), why.clone());
            }
            false
        }
    });
    // Only now, so that nobody's past takes the place of what another says now.
    for (_, share) in shares.into_iter().filter(|(namespace, _)| namespace.is_some()) {
        let mut bytes = share.bytes;
        for place in share.places {
            let offer = &mut offers[place];
            // One of the two will be in force.
            let more = offer.last.as_ref().map_or(0, PolicyText::bytes).saturating_sub(offer.text.bytes());
            if bytes + more > NAMESPACE_MAX || total + more > TOTAL_MAX {
                offer.last = None;
            } else {
                (bytes, total) = (bytes + more, total + more);
            }
        }
    }
    offers
}

#[cfg(test)]
mod tests {
    use callgate_policy::{Compiled, Origin, PolicySet};

    use super::super::Status;
    use super::*;

    fn of(origin: Origin, text: String) -> PolicyObject {
        PolicyObject { origin, uid: String::new(), generation: 1, text: Ok(text), status: Status::default() }
    }

    fn object(namespace: &str, name: usize, text: String) -> PolicyObject {
        of(Origin::Namespace { namespace: namespace.into(), name: name.to_string() }, text)
    }

    fn cluster(name: usize, text: String) -> PolicyObject {
        of(Origin::Cluster { name: name.to_string() }, text)
    }

    fn text(bytes: usize) -> String {
        format!("//{}", "x".repeat(bytes - 2))
    }

    /// Places of what is not taken, and what is closed.
    fn refused(objects: &[PolicyObject]) -> (Vec<usize>, Vec<String>) {
        let offers = within_bounds(objects, |_| Past::InForce("// last"));
        let Compiled { refused, closed, .. } = PolicySet::compile(&offers, |_| None).unwrap();
        assert!(refused.iter().all(|refused| !refused.stands_in && refused.closes));
        (refused.into_iter().map(|refused| refused.offer).collect(), closed.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_namespace_that_is_over_its_bound_is_closed_whole_and_takes_nothing_from_another() {
        let large = |namespace: &str, name| object(namespace, name, text(NAMESPACE_MAX / 2));
        let objects = [large("a", 1), large("a", 2), large("a", 3), large("b", 1), large("b", 2)];
        let closed = vec!["policies of namespace a are over their bound".to_owned()];
        assert_eq!(refused(&objects), (vec![0, 1, 2], closed.clone()));
        let mut many: Vec<PolicyObject> = (0..=OBJECTS_MAX).map(|name| object("a", name, String::new())).collect();
        assert_eq!(refused(&many), ((0..=OBJECTS_MAX).collect(), closed));
        many.pop();
        assert_eq!(refused(&many), (vec![], vec![]));
    }

    #[test]
    fn a_small_namespace_is_not_crowded_out_by_large_ones_that_sort_early() {
        let mut objects: Vec<PolicyObject> =
            (0..17).map(|name| object(&format!("a{name:02}"), 1, text(NAMESPACE_MAX - 100))).collect();
        objects.push(object("z", 1, text(1_000)));
        objects.push(cluster(1, text(NAMESPACE_MAX)));
        // The last two of those that hold as much.
        let (places, closed) = refused(&objects);
        assert_eq!(places, [15, 16]);
        assert_eq!(closed[0], "policies of namespace a15 are over their bound");
        // A large one that sorts last gives way as well.
        objects.insert(0, object("z-large", 1, text(NAMESPACE_MAX)));
        assert_eq!(refused(&objects).0, [0, 16, 17]);
    }

    #[test]
    fn cluster_policies_over_their_bound_close_every_namespace() {
        let objects: Vec<PolicyObject> = (0..=OBJECTS_MAX).map(|name| cluster(name, String::new())).collect();
        let (places, closed) = refused(&objects);
        assert_eq!(
            (places.len(), closed),
            (OBJECTS_MAX + 1, vec!["policies of the cluster are over their bound".into()])
        );
    }

    #[test]
    fn what_was_in_force_stands_in_as_far_as_there_is_room_and_crowds_out_nothing() {
        let past = text(NAMESPACE_MAX / 2 - 100);
        let lasts = |objects: &[PolicyObject]| -> Vec<bool> {
            let offers = within_bounds(objects, |_| Past::InForce(&past));
            assert!(offers.iter().all(|offer| offer.relied_on));
            offers.iter().map(|offer| offer.last.is_some()).collect()
        };
        assert_eq!(lasts(&[1, 2, 3].map(|name| object("a", name, text(100)))), [true, true, false]);
        // One of about the same length needs no room.
        assert_eq!(lasts(&[1, 2].map(|name| object("a", name, text(NAMESPACE_MAX / 2)))), [true, true]);
        let full: Vec<PolicyObject> = (0..16).map(|name| object(&name.to_string(), 1, text(NAMESPACE_MAX))).collect();
        assert!(lasts(&full).into_iter().all(|last| last));
        let mut small = full;
        small[0] = object("0", 1, text(100));
        small.push(object("z", 1, text(NAMESPACE_MAX - 100)));
        let (lasts, room) = (lasts(&small), refused(&small).0);
        assert!(room.is_empty() && !lasts[0] && lasts[1..].iter().all(|last| *last), "{room:?} {lasts:?}");
    }
}
