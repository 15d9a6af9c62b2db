//! What is refused at load, with its place and the nearest valid name.

use super::{errors, kinds, parse, set};
use crate::{ANNOTATIONS, PolicySet, Rule, Severity, Support};

const CALL: &str = r#"action == Callgate::Action::"call""#;
const CONNECT: &str = r#"action == Callgate::Action::"connect""#;

/// One error whose text holds all of `parts`.
#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let errors = errors(text);
    assert!(
        errors.iter().any(|error| parts.iter().all(|part| error.contains(part))),
        "{parts:?} not in {errors:#?}\n{text}"
    );
}

#[test]
fn names_file_line_and_nearest_name() {
    refused(
        &format!("\n\npermit (principal, {CALL}, resource)\nwhen {{ resource.methd == \"GET\" }};"),
        &["p.cedar:4:8: error", "methd", "did you mean `method`?"],
    );
    refused(
        &format!(r#"permit (principal, {CALL}, resource in Callgate::Servce::"x");"#),
        &["p.cedar:1:", "Callgate::Servce", "did you mean `Callgate::Service`?"],
    );
    refused(
        &format!(r#"permit (principal, {CALL}, resource in Service::"x");"#),
        &["did you mean `Callgate::Service`?"],
    );
    refused(
        r#"permit (principal, action == Callgate::Action::"conect", resource);"#,
        &["did you mean `Callgate::Action::\"connect\"`?"],
    );
    refused(&format!("permit (princpal, {CALL}, resource);"), &["p.cedar:1:9: error", "princpal", "principal"]);
    refused(
        &format!("permit (principal, {CALL}, resource)\nwhen {{ context.uuid == 5 }};"),
        &["p.cedar:2:8", "did you mean `uid`?"],
    );
    refused(
        &format!("@id(\"a\")\n  @maks(\"pii\")\npermit (principal, {CALL}, resource);"),
        &["p.cedar:2:3: error: unknown annotation `@maks`", "did you mean `mask`?"],
    );
    refused(
        &format!("@mask(\"email,pi\")\npermit (principal, {CALL}, resource);"),
        &["p.cedar:1:1", "`@mask` knows no kind `pi`", "did you mean `pii`?"],
    );
    refused(
        &format!("@record(\"ful\") permit (principal, {CALL}, resource);"),
        &["`@record` does not take `ful`", "did you mean `full`?"],
    );
    refused("permit (principal, action, resource)", &["p.cedar:1:", "error"]);
    refused("permit principal;", &["p.cedar:1:8", "error"]);
}

#[test]
fn annotations_must_be_known_placed_and_filled() {
    for row in ANNOTATIONS.iter().filter(|row| row.support == Support::Later) {
        refused(
            &format!("@{}(\"x\") permit (principal, {CALL}, resource);", row.key),
            &[&format!("`@{}` is not supported by this version", row.key)],
        );
    }
    for row in ANNOTATIONS.iter().filter(|row| row.support != Support::Later) {
        let action = if row.key == "tls" { CONNECT } else { CALL };
        for value in ["", "(\"\")", "(\" \")"] {
            refused(
                &format!("@{}{value} permit (principal, {action}, resource);", row.key),
                &[&format!("`@{}` needs a value", row.key)],
            );
        }
    }
    for (text, key) in [
        (format!(r#"@tls("passthrough") permit (principal, {CALL}, resource);"#), "tls"),
        (r#"@tls("passthrough") permit (principal, action, resource);"#.to_owned(), "tls"),
        (format!(r#"@tls("passthrough") forbid (principal, {CONNECT}, resource);"#), "tls"),
        (format!(r#"@mask("pii") forbid (principal, {CALL}, resource);"#), "mask"),
        (format!(r#"@mask("pii") permit (principal, {CONNECT}, resource);"#), "mask"),
        (format!(r#"@record("full") forbid (principal, {CALL}, resource);"#), "record"),
        (format!(r#"@record("full") permit (principal, {CONNECT}, resource);"#), "record"),
    ] {
        refused(&text, &[&format!("`@{key}` has no effect on this policy")]);
    }
    for value in ["pii,", ",pii", "pii,,email"] {
        refused(&format!("@mask(\"{value}\") permit (principal, {CALL}, resource);"), &["`@mask` has an empty word"]);
    }
    for value in ["PII", "pii email"] {
        refused(&format!("@mask(\"{value}\") permit (principal, {CALL}, resource);"), &["`@mask` knows no kind"]);
    }
    for id in ["a b", "ü", "a\\\"b", &"x".repeat(129)] {
        refused(&format!("@id(\"{id}\") permit (principal, {CALL}, resource);"), &["cannot be an id"]);
    }
    refused(&format!("@id(\"a\") @id(\"b\") permit (principal, {CALL}, resource);"), &["p.cedar:1:", "id"]);
}

#[test]
fn ids_are_unique_across_files_and_default_to_file_and_number() {
    let permit = format!("permit (principal, {CALL}, resource in Callgate::Service::\"api.x\");");
    let files = [
        ("b.cedar".to_owned(), format!("{permit}\n@id(\"same\")\n{permit}")),
        ("a.cedar".to_owned(), format!("\n@id(\"same\") {permit}")),
    ];
    let refused = PolicySet::parse(&files, kinds).unwrap_err();
    let texts: Vec<String> = refused.errors().map(ToString::to_string).collect();
    assert_eq!(texts, ["b.cedar:2:1: error: the id `same` is taken (it is the id of the policy at a.cedar:2)"]);

    let (set, _) = PolicySet::parse(&files[..1], kinds).unwrap();
    let decision = super::Asker::new("run/x").call(&set, "GET api.x/").unwrap().into_decision();
    assert_eq!(decision.policies, ["b.cedar:1", "same"]);
    assert!(PolicySet::parse(&[files[0].clone(), files[0].clone()], kinds).is_err());
}

#[test]
fn ids_of_entities_must_be_possible() {
    let scope = |resource: &str| format!("permit (principal, {CALL}, resource in {resource});");
    refused(&scope(r#"Callgate::Service::"https://API.x/v1""#), &["p.cedar:1:", "did you mean `api.x`?"]);
    refused(&scope(r#"Callgate::Service::"*.x.y""#), &["resource.host like"]);
    refused(
        &format!(r#"permit (principal, {CALL}, resource == Callgate::Function::"sql:select a");"#),
        &["is not a protocol that this version decodes"],
    );
    refused(
        &format!(r#"permit (principal, {CALL}, resource == Callgate::Function::"grpc:a.B/C");"#),
        &["`grpc:pkg.Svc/Method host`"],
    );
    refused(
        &format!(r#"permit (principal == Callgate::Workload::"rnu/x", {CALL}, resource);"#),
        &["did you mean `run/x`?"],
    );
    refused(
        &format!(r#"permit (principal in Callgate::ServiceAccount::"web", {CALL}, resource);"#),
        &["`web` is not a service account", "NAMESPACE/NAME"],
    );
    refused(
        &format!(r#"permit (principal, {CONNECT}, resource == Callgate::Service::"api.x");"#),
        &["resource in Callgate::Service"],
    );
}

#[test]
fn literals_that_never_match_are_refused() {
    for (condition, help) in [
        (r#"resource.method == "get""#, "`GET`"),
        (r#""get" != resource.method"#, "`GET`"),
        (r#"["GET", "Post"].contains(resource.method)"#, "`POST`"),
        (r#"resource.path == "v1""#, "`/v1`"),
        (r#"resource.path like "v1/*""#, "`/v1/*`"),
        (r#"resource.path == "/v1/*""#, "resource.path like \"/v1/*\""),
        (r#"resource.path == "/v1?x=1""#, "query"),
        (r#"resource.host == "API.x""#, "`api.x`"),
        (r#"resource.host like "*.Example.com""#, "`*.example.com`"),
        (r#"resource.protocol == "htp""#, "`http`"),
        (r#"resource.protocol == "postgres""#, "decodes"),
    ] {
        for clause in ["when", "unless"] {
            refused(
                &format!("permit (principal, {CALL}, resource)\n{clause} {{ {condition} }};"),
                &["p.cedar:2:", help],
            );
        }
    }
    for condition in [
        r#"resource.method == "PROPFIND""#,
        r#"resource.path == "*" && resource.method == "OPTIONS""#,
        r#"resource.path like "*/admin""#,
        r#"resource.host == "10.0.0.7" || resource.host like "*.example.com""#,
        r#"principal.name == "get""#,
    ] {
        set(&format!("permit (principal, {CALL}, resource) when {{ {condition} }};"));
    }
}

#[test]
fn approval_and_bare_context_are_refused() {
    for condition in ["context.approved", "!context.approved", "context has approved", r#"context["approved"]"#] {
        refused(&format!("permit (principal, {CALL}, resource) unless {{ {condition} }};"), &["needs `@hold`"]);
    }
    refused(
        &format!("permit (principal, {CALL}, resource) when {{ [context].contains(context) }};"),
        &["`context` is used as a whole"],
    );
}

#[test]
fn templates_and_duplicate_scopes_are_refused() {
    refused(&format!("permit (principal == ?principal, {CALL}, resource);"), &["templates", "p.cedar:1:1"]);
}

#[test]
fn a_rule_that_could_not_be_enforced_is_refused() {
    let pinned = format!(
        r#"@id("pin") @tls("passthrough") permit (principal, {CONNECT}, resource in Callgate::Service::"api.x");"#
    );
    let masked = |resource: &str| format!(r#"@mask("pii") permit (principal, {CALL}, {resource});"#);
    let named = r#"resource in Callgate::Service::"api.x:443""#;
    refused(&format!("{pinned}{}", masked(named)), &["`@mask` could not be carried out", "`pin`"]);
    refused(&format!("{pinned} forbid (principal, {CALL}, {named});"), &["could not be enforced"]);
    refused(
        &format!(r#"{pinned} forbid (principal, {CALL}, resource == Callgate::Function::"http:GET api.x/");"#),
        &["could not be enforced"],
    );
    let (_, warnings) = parse(&format!("{pinned}{}", masked("resource"))).unwrap();
    assert!(warnings.iter().any(|w| w.rule == Rule::Unenforceable));
    for apart in [r#"resource in Callgate::Service::"other.x""#, r#"resource in Callgate::Service::"sub.api.x""#] {
        let (_, warnings) = parse(&format!("{pinned}{}", masked(apart))).unwrap();
        assert_eq!(warnings, [], "{apart}");
    }
    refused(
        &format!("@id(\"never\") forbid (principal, {CALL}, resource) when {{ false }};"),
        &["the policy can never match"],
    );
}

#[test]
fn warns_of_what_is_probably_not_meant() {
    for (text, rule) in [
        (format!("permit (principal, {CALL}, resource);"), Rule::Broad),
        ("permit (principal, action, resource);".to_owned(), Rule::Broad),
        (format!("permit (principal, {CALL}, resource) when {{ false }};"), Rule::NeverMatches),
        (format!("permit (principal, {CALL}, resource is Callgate::Service);"), Rule::NeverMatches),
        (
            format!(
                r#"permit (principal, {CALL}, resource) when {{ context has executable && context.executable.path == "/bin/x" }};"#
            ),
            Rule::Spoofable,
        ),
    ] {
        let (_, warnings) = parse(&text).unwrap();
        assert!(warnings.iter().any(|w| w.rule == rule && w.severity == Severity::Warning), "{warnings:?}\n{text}");
    }
}

#[test]
fn the_hash_knows_names_and_contents_but_not_their_order() {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let hash = |files: &[(String, String)]| PolicySet::parse(files, kinds).unwrap().0.hash().to_owned();
    let permit = format!("permit (principal, {CALL}, resource);");
    let both = hash(&[file("a", &permit), file("b", "")]);
    assert_eq!(both, hash(&[file("b", ""), file("a", &permit)]));
    assert_eq!(both.len(), 16);
    assert_ne!(both, hash(&[file("a", ""), file("b", &permit)]));
    assert_ne!(both, hash(&[file("a", &permit)]));
    assert_ne!(both, hash(&[file("a", &format!("{permit} ")), file("b", "")]));
}

#[test]
fn every_error_is_reported_at_once() {
    let files = [
        ("a.cedar".to_owned(), "permit (".to_owned()),
        ("b.cedar".to_owned(), format!("@x(\"1\") @y(\"2\") permit (principal, {CALL}, resource.z);")),
        ("c.cedar".to_owned(), format!("@x(\"1\") @y(\"2\") permit (principal, {CALL}, resource);")),
    ];
    let refused = PolicySet::parse(&files, kinds).unwrap_err();
    assert!(refused.errors().count() >= 4, "{refused:?}");
    assert_eq!(refused.errors().filter(|e| e.file == "c.cedar").count(), 2);
    assert!(refused.to_string().contains(" more"));
}
