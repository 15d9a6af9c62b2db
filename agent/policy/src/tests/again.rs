//! A compiler that has made sets before makes the same of the same texts as one that has not.

use proptest::prelude::*;

use super::index::rule;
use super::kinds;
use crate::{Compiled, Compiler, Offer, Origin, PolicySet, PolicyText};

/// Where the objects are.
const PLACES: [(&str, &str); 5] = [("", "x"), ("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")];

fn offer((namespace, name): (&str, &str), text: &str, last: Option<&str>) -> Offer {
    let origin = || match namespace {
        "" => Origin::Cluster { name: name.into() },
        _ => Origin::Namespace { namespace: namespace.into(), name: name.into() },
    };
    let last = last.map(|last| PolicyText::object(origin(), last));
    Offer { text: PolicyText::object(origin(), text), relied_on: last.is_some(), last }
}

fn summary(compiled: Compiled) -> impl PartialEq + std::fmt::Debug {
    let Compiled { set, warnings, refused, closed } = compiled;
    (set.hash().to_owned(), set.len(), warnings, refused, closed)
}

proptest! {
    #[test]
    fn what_was_checked_before_is_checked_the_same(
        changes in proptest::collection::vec((0..PLACES.len(), 0..4_usize, rule(), any::<bool>()), 1..12),
    ) {
        let mut compiler = Compiler::new(kinds).unwrap();
        let mut texts: [(String, Option<String>); 5] = Default::default();
        for (place, what, rule, keep) in changes {
            let pass = "@tls(\"passthrough\") permit (principal, action == Callgate::Action::\"connect\", \
                        resource in Callgate::Service::\"api.x\");";
            let text = match what {
                0 => "permit (".to_owned(),
                1 => pass.to_owned(),
                _ => rule.text(0),
            };
            let before = std::mem::replace(&mut texts[place].0, text);
            texts[place].1 = keep.then_some(before);
            let offers: Vec<Offer> =
                PLACES.iter().zip(&texts).map(|(place, (text, last))| offer(*place, text, last.as_deref())).collect();
            let (again, anew) = (compiler.compile(&offers).unwrap(), PolicySet::compile(&offers, kinds).unwrap());
            prop_assert_eq!(summary(again), summary(anew));
        }
    }
}
