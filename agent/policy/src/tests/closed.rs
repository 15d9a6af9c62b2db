//! What should be in force and cannot be closes its namespace, and no other.

use callgate_model::Decision;

use super::cluster::{CALL, CONNECT, EVERYTHING, calls, changed, compile, directory, object, pod};
use super::{Asker, errors};
use crate::{Compiled, Offer, Origin};

const BROKEN: &str = "permit (principal,";

/// An object that an agent has no good text of, though something of it was in force.
fn lost(namespace: &str, name: &str, text: &str) -> Offer {
    Offer { relied_on: true, ..object(namespace, name, text) }
}

fn closed(compiled: &Compiled) -> Vec<String> {
    compiled.closed.iter().map(ToString::to_string).collect()
}

#[test]
fn a_lost_object_closes_its_namespace_alone() {
    let id = "policies of namespace a cannot be in force";
    for lost in [lost("a", "web", BROKEN), changed("a", "web", BROKEN, BROKEN)] {
        let rest = [object("", "all", EVERYTHING), object("a", "more", EVERYTHING), object("b", "web", EVERYTHING)];
        let compiled = compile(&[&[lost][..], &rest].concat());
        assert_eq!(closed(&compiled), [id]);
        assert!(compiled.refused[0].closes && !compiled.refused[0].stands_in);
        assert_eq!(calls(&compiled.set, &pod("b"), "GET api.x/"), "allow");
        assert_eq!(calls(&compiled.set, &Asker::new("unit/x"), "GET api.x/"), "allow");
        let Err(Decision { policies, .. }) = pod("a").connect(&compiled.set, "api.x:443") else { panic!("permitted") };
        assert_eq!(policies, [id]);
        // Decisions are remembered by the hash.
        assert_ne!(compiled.set.hash(), compile(&rest).set.hash());
    }
}

#[test]
fn what_nobody_ever_relied_on_closes_nothing() {
    let compiled = compile(&[object("a", "web", BROKEN), object("a", "more", EVERYTHING)]);
    assert_eq!((closed(&compiled).len(), compiled.refused[0].closes), (0, false));
    assert_eq!(calls(&compiled.set, &pod("a"), "GET api.x/"), "allow");
}

#[test]
fn lost_cluster_policies_close_every_pod_and_nothing_else() {
    let compiled = compile(&[lost("", "all", BROKEN), directory(EVERYTHING), object("b", "web", EVERYTHING)]);
    assert_eq!(closed(&compiled), ["policies of the cluster cannot be in force"]);
    assert_eq!(calls(&compiled.set, &pod("a"), "GET api.x/"), "forbidden");
    assert_eq!(calls(&compiled.set, &pod("b"), "GET api.x/"), "forbidden");
    assert_eq!(calls(&compiled.set, &Asker::new("unit/x"), "GET api.x/"), "allow");
}

#[test]
fn a_contradiction_closes_only_what_had_something_to_forbid() {
    let above =
        object("", "base", &format!("forbid (principal, {CALL}, resource) when {{ resource.method == \"PUT\" }};"));
    let passes =
        format!("@tls(\"passthrough\") permit (principal, {CONNECT}, resource in Callgate::Service::\"api.x\");");
    let with = |more: &str| format!("{passes}\n{more}");
    for (text, closes) in [
        (passes.clone(), false),
        (with(&format!("permit (principal, {CALL}, resource);")), false),
        (with(&format!("forbid (principal, {CALL}, resource in Callgate::Service::\"b.x\");")), true),
        (with(&format!("@mask(\"pii\") permit (principal, {CALL}, resource in Callgate::Service::\"b.x\");")), true),
        (with(&format!("@record(\"full\") permit (principal, {CALL}, resource);")), true),
        (
            with(&format!(
                "permit (principal, {CALL}, resource) when {{ context.arguments.number.hasTag(\"/n\") && \
                 context.arguments.number.getTag(\"/n\") <= 10 }};"
            )),
            true,
        ),
    ] {
        let compiled = compile(&[changed("a", "web", &text, &text), object("a", "more", EVERYTHING), above.clone()]);
        assert_eq!(compiled.refused.len(), 1, "{text}");
        assert_eq!(compiled.refused[0].closes, closes, "{text}");
        let said = if closes { "forbidden" } else { "allow" };
        assert_eq!(calls(&compiled.set, &pod("a"), "GET api.x/"), said, "{text}");
        // Never in force: absent.
        assert_eq!(closed(&compile(&[object("a", "web", &text), above.clone()])).len(), 0, "{text}");
    }
}

#[test]
fn a_namespace_over_its_bound_says_which() {
    let over = |name: &str| {
        Offer::over(Origin::Namespace { namespace: "a".into(), name: name.into() }, "there are too many".to_owned())
    };
    let compiled = compile(&[over("x"), over("y"), lost("a", "z", BROKEN), object("b", "web", EVERYTHING)]);
    assert_eq!(closed(&compiled), ["policies of namespace a are over their bound"]);
    assert_eq!(compiled.closed[0].over.as_deref(), Some("there are too many"));
    assert_eq!(calls(&compiled.set, &pod("b"), "GET api.x/"), "allow");
    assert_eq!(calls(&compiled.set, &pod("a"), "GET api.x/"), "forbidden");
}

#[test]
fn nothing_opens_what_is_closed() {
    let tricks = [
        EVERYTHING.to_owned(),
        format!("@tls(\"passthrough\") permit (principal, {CONNECT}, resource);"),
        format!("permit (principal in Callgate::Namespace::\"a\", {CALL}, resource);"),
    ];
    for trick in &tricks {
        let compiled = compile(&[lost("a", "web", BROKEN), object("a", "more", trick), object("", "all", EVERYTHING)]);
        assert_eq!(calls(&compiled.set, &pod("a"), "GET api.x/"), "forbidden", "{trick}");
    }
    // Nobody else's policy can go by the id of the one that refuses.
    let id = "policies of namespace a cannot be in force";
    assert!(errors(&format!("@id(\"{id}\") {EVERYTHING}"))[0].contains("cannot be an id"));
}
