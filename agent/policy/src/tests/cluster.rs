//! Objects of a cluster: confined to their namespace, and each broken for itself.

use callgate_model::{Decision, Reason};
use proptest::prelude::*;

use super::index::{rule, state};
use super::{Asker, kinds, word};
use crate::{Compiled, LoadErrors, Offer, Origin, PolicySet, PolicyText};

pub(super) const CALL: &str = r#"action == Callgate::Action::"call""#;
pub(super) const CONNECT: &str = r#"action == Callgate::Action::"connect""#;
pub(super) const EVERYTHING: &str = "permit (principal, action, resource);";

fn of(namespace: &str, name: &str) -> Origin {
    match namespace {
        "" => Origin::Cluster { name: name.into() },
        namespace => Origin::Namespace { namespace: namespace.into(), name: name.into() },
    }
}

/// An object; of the cluster where `namespace` is empty.
pub(super) fn object(namespace: &str, name: &str, text: &str) -> Offer {
    Offer::of(PolicyText::object(of(namespace, name), text))
}

pub(super) fn directory(text: &str) -> Offer {
    Offer::of(PolicyText::directory(vec![("p.cedar".into(), text.into())]))
}

/// An object, and what was in force of it.
pub(super) fn changed(namespace: &str, name: &str, text: &str, last: &str) -> Offer {
    let last = Some(PolicyText::object(of(namespace, name), last));
    Offer { last, relied_on: true, ..object(namespace, name, text) }
}

pub(super) fn compile(offers: &[Offer]) -> Compiled {
    PolicySet::compile(offers, kinds).unwrap()
}

/// A set of texts that must all be taken.
#[track_caller]
fn sound(offers: &[Offer]) -> PolicySet {
    let compiled = compile(offers);
    assert!(compiled.refused.is_empty(), "{:#?}", compiled.refused);
    compiled.set
}

pub(super) fn pod(namespace: &str) -> Asker {
    Asker::new(&format!("k8s/{namespace}/web"))
}

/// Whether a pod may call, in one word.
pub(super) fn calls(set: &PolicySet, asker: &Asker, call: &str) -> &'static str {
    let function = asker.function(call);
    match asker.connect(set, &function.service.to_string()) {
        Ok(permit) => word(&set.decide_call(&asker.ask(&permit, &function))),
        Err(denied) => denied.reason.as_str(),
    }
}

fn first(errors: &LoadErrors) -> String {
    errors.errors().next().unwrap().to_string()
}

#[test]
fn what_a_namespace_permits_it_permits_itself() {
    let tricks = [
        EVERYTHING.to_owned(),
        format!("permit (principal, {CALL}, resource) when {{ true || principal.namespace == \"b\" }};"),
        format!("permit (principal is Callgate::Workload, {CALL}, resource) unless {{ false }};"),
        format!("// }}; forbid (principal\npermit (principal, {CALL}, // \"b\" )\n resource); // ;"),
        format!("permit (principal in Callgate::Group::\"shared\", {CALL}, resource);"),
        format!("@id(\"b/web/1\") permit (principal, {CALL}, resource);"),
        format!("@id(\"../../cluster:all/1\") permit (principal, {CALL}, resource);"),
    ];
    for trick in &tricks {
        let set = sound(&[object("a", "web", trick), object("b", "web", "// nothing")]);
        let mut of_a = pod("a");
        of_a.groups.push("shared".into());
        let mut of_b = pod("b");
        of_b.groups.push("shared".into());
        assert_eq!(calls(&set, &of_a, "GET api.x/"), "allow", "{trick}");
        assert_eq!(calls(&set, &of_b, "GET api.x/"), "no_permit", "{trick}");
        let mut no_pod = Asker::new("run/a");
        no_pod.groups.push("shared".into());
        assert_eq!(calls(&set, &no_pod, "GET api.x/"), "no_permit", "{trick}");
    }
}

#[test]
fn what_names_another_namespace_is_refused() {
    for (text, help) in [
        (format!("permit (principal in Callgate::Namespace::\"b\", {CALL}, resource);"), "namespace `b`"),
        (format!("permit (principal in Callgate::ServiceAccount::\"b/web\", {CALL}, resource);"), "namespace `b`"),
        (format!("permit (principal == Callgate::Workload::\"k8s/b/web\", {CALL}, resource);"), "namespace `b`"),
        (
            format!("forbid (principal, {CALL}, resource) unless {{ principal in Callgate::Namespace::\"b\" }};"),
            "namespace `b`",
        ),
        ("permit (principal == ?principal, action, resource);".to_owned(), "templates"),
    ] {
        let compiled = compile(&[object("a", "web", &text)]);
        let said = first(&compiled.refused[0].errors);
        assert!(said.starts_with("CallPolicy/a/web:1:") && said.contains(help), "{said}");
        assert!(compiled.set.is_empty() && !compiled.refused[0].stands_in);
    }
    sound(&[object(
        "a",
        "web",
        &format!("permit (principal in Callgate::ServiceAccount::\"a/x\", {CALL}, resource);"),
    )]);
    sound(&[object("", "web", &format!("permit (principal in Callgate::Namespace::\"b\", {CALL}, resource);"))]);
}

#[test]
fn what_a_namespace_forbids_fails_or_looks_into_is_its_own_matter() {
    let cluster = object("", "all", &format!("permit (principal, {CALL}, resource in Callgate::Service::\"api.x\");"));
    for (text, denied) in [
        ("forbid (principal, action, resource);".to_owned(), "forbidden"),
        (
            format!("forbid (principal, {CALL}, resource) when {{ context.uid * 9223372036854775807 > 1 }};"),
            "evaluation_error",
        ),
        (
            format!(
                "permit (principal, {CALL}, resource) when {{ context.arguments.number.hasTag(\"/n\") && \
                 context.arguments.number.getTag(\"/n\") <= 10 }};"
            ),
            "arguments_unfit",
        ),
    ] {
        let set = sound(&[cluster.clone(), object("a", "web", &text)]);
        assert_eq!(calls(&set, &pod("a"), "GET api.x/"), denied, "{text}");
        assert_eq!(calls(&set, &pod("b"), "GET api.x/"), "allow", "{text}");
        assert_eq!(calls(&set, &Asker::new("unit/x"), "GET api.x/"), "allow", "{text}");
    }
}

#[test]
fn ids_say_which_object_decided_and_annotations_work() {
    let text = format!(
        "@id(\"read\") @mask(\"pii\") permit (principal, {CALL}, resource);\nforbid (principal, {CALL}, resource) when {{ resource.method == \"PUT\" }};"
    );
    let set =
        sound(&[directory(&text), object("", "base", &text), object("a", "web", &text), object("b", "web", &text)]);
    let permit = pod("a").call(&set, "GET api.x/").unwrap();
    let decision = permit.decision();
    assert_eq!(decision.policies, ["a/web/read", "cluster:base/read", "read"]);
    assert_eq!(decision.obligations.mask.kinds(), kinds("pii").unwrap());
    let Err(Decision { policies, .. }) = pod("b").call(&set, "PUT api.x/") else { panic!("permitted") };
    assert_eq!(policies, ["b/web/2", "cluster:base/2", "p.cedar:2"]);
    assert_eq!(set.place("a/web/read").unwrap().file, "CallPolicy/a/web");
}

#[test]
fn a_broken_object_keeps_what_it_had_and_keeps_nobody_out() {
    let good = format!("permit (principal, {CALL}, resource in Callgate::Service::\"api.x\");");
    let broken = "permit (principal,";
    let compiled =
        compile(&[object("a", "web", &good), changed("b", "web", broken, &good), object("c", "web", broken)]);
    for (namespace, said) in [("a", "allow"), ("b", "allow"), ("c", "no_permit")] {
        assert_eq!(calls(&compiled.set, &pod(namespace), "GET api.x/"), said, "{namespace}");
    }
    let refused: Vec<(usize, bool)> = compiled.refused.iter().map(|one| (one.offer, one.stands_in)).collect();
    assert_eq!((refused, compiled.closed), (vec![(1, true), (2, false)], vec![]));
    assert!(first(&compiled.refused[0].errors).starts_with("CallPolicy/b/web:1:"));
    // A directory is one text: an error in one of its files keeps all of them out, and no object.
    let compiled = compile(&[directory(broken), object("a", "web", &good)]);
    assert_eq!((compiled.set.len(), compiled.refused.len()), (1, 1));
}

#[test]
fn the_hash_covers_every_origin() {
    let good = format!("permit (principal, {CALL}, resource in Callgate::Service::\"api.x\");");
    let alone = sound(&[directory(&good)]);
    let hashes = [
        sound(&[directory(&good), object("a", "web", &good)]),
        sound(&[directory(&good), object("a", "web", &good)]),
        sound(&[directory(&good), object("b", "web", &good)]),
        sound(&[directory(&good), object("", "web", &good)]),
        sound(&[directory(&good), object("a", "web", &format!("{good}\n"))]),
    ];
    let all: std::collections::BTreeSet<&str> = hashes.iter().chain([&alone]).map(PolicySet::hash).collect();
    assert_eq!(all.len(), 5);
    assert_eq!(hashes[0].hash(), hashes[1].hash());
    // The order in which they come says nothing, nor does what was not taken.
    let (a, b) = (object("a", "web", &good), object("b", "web", &good));
    assert_eq!(sound(&[a.clone(), b.clone()]).hash(), sound(&[b, a.clone()]).hash());
    assert_eq!(compile(&[a.clone(), object("c", "x", "permit")]).set.hash(), sound(&[a]).hash());
    assert_eq!(alone.hash(), super::set(&good).hash());
}

#[test]
fn a_namespace_passes_nothing_by_what_its_operator_says_of_calls() {
    let pass = |service: &str| {
        format!("@tls(\"passthrough\") permit (principal, {CONNECT}, resource in Callgate::Service::\"{service}\");")
    };
    let masked = format!("@mask(\"pii\") permit (principal, {CALL}, resource in Callgate::Service::\"api.x\");");
    let general = format!("forbid (principal, {CALL}, resource) when {{ resource.method == \"DELETE\" }};");
    let own = format!("forbid (principal, {CALL}, resource in Callgate::Service::\"api.x\");");
    for above in [directory(&masked), object("", "base", &masked), directory(&general), object("", "base", &general)] {
        let compiled = compile(&[object("a", "web", &pass("api.x")), above.clone()]);
        assert_eq!(compiled.refused.len(), 1);
        assert_eq!(compiled.refused[0].origin, of("a", "web"), "{above:?}");
        assert!(first(&compiled.refused[0].errors).contains("passes through unopened"));
    }
    // Nobody else's rules have a say.
    sound(&[object("a", "web", &pass("api.x")), object("b", "web", &own)]);
    // What the operator passes through stays, whatever a namespace says of calls; it is told.
    let compiled = compile(&[object("", "base", &pass("api.x")), object("a", "web", &own)]);
    assert!(compiled.refused.is_empty());
    assert!(compiled.warnings.iter().any(|finding| finding.file == "CallPolicy/a/web"), "{:?}", compiled.warnings);
    // Within one namespace the passthrough goes, whatever the objects are called.
    for (first, second) in [("x", "y"), ("y", "x")] {
        let compiled = compile(&[object("a", first, &pass("api.x")), object("a", second, &own)]);
        assert_eq!(compiled.refused[0].origin, of("a", first));
    }
}

#[test]
fn an_id_of_the_directory_that_looks_like_an_objects_stays() {
    let text = format!("@id(\"a/web/read\") permit (principal, {CALL}, resource);");
    let theirs = format!("@id(\"read\") permit (principal, {CALL}, resource);");
    let compiled = compile(&[object("a", "web", &theirs), directory(&text)]);
    assert_eq!(compiled.refused[0].origin, of("a", "web"));
    assert_eq!(compiled.set.len(), 1);
}

proptest! {
    /// Whatever another namespace says, this one's decisions are the same, to the last policy named.
    #[test]
    fn namespaces_do_not_meet(
        rules in proptest::collection::vec((rule(), 0..3_usize), 0..10),
        groups in proptest::sample::subsequence(vec!["g", "h"], 0..=2),
        arguments in state(),
        call in proptest::sample::select(vec!["GET api.x/v1", "PUT api.x:8443/v1/a", "GET other.x/"]),
    ) {
        let text = |of: usize| {
            let mine = rules.iter().enumerate().filter(|(_, (_, place))| *place == of);
            mine.map(|(number, (rule, _))| rule.text(number)).collect::<Vec<_>>().join("\n")
        };
        let (cluster, a, b) = (object("", "x", &text(0)), object("a", "x", &text(1)), object("b", "x", &text(2)));
        let (with, without) = (compile(&[cluster.clone(), a.clone(), b]).set, compile(&[cluster, a]).set);
        let mut asker = pod("a");
        asker.groups = groups.into_iter().map(str::to_owned).collect();
        asker.arguments = arguments;
        let said = |set: &PolicySet| -> (Reason, Vec<String>) {
            let function = asker.function(call);
            let decision = match asker.connect(set, &function.service.to_string()) {
                Ok(permit) => set.decide_call(&asker.ask(&permit, &function)).map(|permit| permit.decision().clone()),
                Err(denied) => Err(denied),
            };
            let decision = decision.unwrap_or_else(|denied| denied);
            (decision.reason, decision.policies)
        };
        prop_assert_eq!(said(&with), said(&without));
    }
}

#[test]
fn a_tenant_has_so_many_policies_and_no_more() {
    let many = |count: usize| "forbid (principal, action, resource);\n".repeat(count);
    let compiled = compile(&[object("a", "web", &many(257)), object("b", "web", EVERYTHING)]);
    assert_eq!(compiled.refused.len(), 1);
    let said = first(&compiled.refused[0].errors);
    assert!(said.contains("257 policies in one object; 256 are allowed"), "{said}");
    let objects: Vec<Offer> = (0..5).map(|number| object("a", &format!("web-{number}"), &many(256))).collect();
    let compiled = compile(&objects);
    assert_eq!(compiled.refused.len(), 1, "{:#?}", compiled.refused);
    let said = first(&compiled.refused[0].errors);
    assert!(said.contains("more than 1024 policies in the namespace `a`"), "{said}");
    // Nobody relied on the fifth, but what it forbids is not known to be left out.
    assert_eq!(compiled.closed[0].to_string(), "policies of namespace a are over their bound");
    // An operator has no such bound.
    sound(&[object("", "web", &many(257))]);
}

#[test]
fn pairs_that_do_not_fit_together_are_told_of_as_far_as_anybody_reads() {
    let passes = format!("@tls(\"passthrough\") permit (principal, {CONNECT}, resource);\n").repeat(120);
    let forbids = format!("forbid (principal, {CALL}, resource);\n").repeat(120);
    let compiled = compile(&[directory(&(passes + &forbids))]);
    assert!(compiled.warnings.len() <= 200, "{}", compiled.warnings.len());
}
