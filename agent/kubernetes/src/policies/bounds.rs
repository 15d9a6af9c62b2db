//! How much policy one namespace may hold, and all of them: so that none crowds out another's.

use callgate_policy::{Offer, PolicyText};

use super::PolicyObject;

/// Most text of one namespace, and of the ClusterCallPolicies together. Unit: bytes.
/// Source: ours; it is room for some thousand policies.
pub const NAMESPACE_MAX: usize = 1 << 20;
/// Most objects of one namespace, and of ClusterCallPolicies.
pub const OBJECTS_MAX: usize = 256;
/// Most text of all. Unit: bytes. Source: what a directory may hold.
pub const TOTAL_MAX: usize = 16 << 20;

/// The offers of `objects`, which are in order; `last` tells what was in force of one. What is over a bound is offered
/// as broken, and nothing stands in for it: else the bound would be none.
#[must_use]
pub fn within_bounds<'a>(
    objects: impl IntoIterator<Item = &'a PolicyObject>,
    last: impl Fn(&PolicyObject) -> Option<&'a str>,
) -> Vec<Offer> {
    let (mut whose, mut count, mut bytes, mut total) = (None, 0, 0, 0);
    let mut offers = Vec::new();
    for object in objects {
        let of = object.origin.namespace();
        if whose.replace(of.map(str::to_owned)).is_none_or(|before| before.as_deref() != of) {
            (count, bytes) = (0, 0);
        }
        let offer = object.offer(last(object));
        let size = offer.text.bytes().max(offer.last.as_ref().map_or(0, PolicyText::bytes));
        (count, bytes) = (count + 1, bytes + size);
        let what = match of {
            Some(namespace) => format!("the CallPolicies of namespace `{namespace}`"),
            None => "the ClusterCallPolicies".to_owned(),
        };
        let over = if count > OBJECTS_MAX {
            Some(format!("{what} are more than {OBJECTS_MAX}"))
        } else if bytes > NAMESPACE_MAX {
            Some(format!("{what} are over {NAMESPACE_MAX} bytes together"))
        } else if total + size > TOTAL_MAX {
            Some(format!("the policies of all namespaces are over {TOTAL_MAX} bytes together"))
        } else {
            total += size;
            None
        };
        offers.push(match over {
            Some(why) => Offer { text: PolicyText::unfit(object.origin.clone(), why), last: None },
            None => offer,
        });
    }
    offers
}

#[cfg(test)]
mod tests {
    use callgate_policy::Origin;

    use super::super::Status;
    use super::*;

    fn object(namespace: &str, name: usize, text: String) -> PolicyObject {
        PolicyObject {
            origin: Origin::Namespace { namespace: namespace.into(), name: name.to_string() },
            uid: String::new(),
            generation: 1,
            text: Ok(text),
            status: Status::default(),
        }
    }

    fn refused(objects: &[PolicyObject]) -> Vec<usize> {
        let compiled =
            callgate_policy::PolicySet::compile(&within_bounds(objects, |_| Some("// last")), |_| None).unwrap();
        assert!(compiled.refused.iter().all(|refused| !refused.stands_in));
        compiled.refused.into_iter().map(|refused| refused.offer).collect()
    }

    #[test]
    fn a_namespace_that_is_over_its_bound_takes_nothing_from_another() {
        let half = format!("//{}", "x".repeat(NAMESPACE_MAX / 2 - 2));
        let large = |namespace: &str, name| object(namespace, name, half.clone());
        let objects = [large("a", 1), large("a", 2), large("a", 3), large("b", 1), large("b", 2)];
        assert_eq!(refused(&objects), [2]);
        let many: Vec<PolicyObject> = (0..=OBJECTS_MAX).map(|name| object("a", name, String::new())).collect();
        assert_eq!(refused(&many), [OBJECTS_MAX]);
    }

    #[test]
    fn all_together_have_a_bound() {
        let full = format!("//{}", "x".repeat(NAMESPACE_MAX - 2));
        let objects: Vec<PolicyObject> = (0..17).map(|name| object(&name.to_string(), 1, full.clone())).collect();
        assert_eq!(refused(&objects), [16]);
    }
}
