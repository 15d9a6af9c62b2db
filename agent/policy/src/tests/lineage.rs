//! Which programs started the one that calls: known for certain, or not known.

use callgate_model::LineageEnd;

use super::{Asker, parse, set, word};
use crate::{Rule, Severity};

#[test]
fn an_ancestor_is_known_by_its_digest_alone() {
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let set = set(&format!(
        r#"permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x")
           when {{ context.lineage.ancestors.contains("{a}") }};"#
    ));
    let said = |asker: Asker| word(&asker.call(&set, "GET api.x/"));
    let run = || Asker::new("run/x");
    assert_eq!(said(run().started_by(&[Some(&a)], LineageEnd::Entry)), "allow");
    assert_eq!(said(run().started_by(&[None, Some(&b), Some(&a)], LineageEnd::Cut)), "allow");
    assert_eq!(said(run().started_by(&[Some(&b)], LineageEnd::Entry)), "no_permit");
    assert_eq!(said(run().started_by(&[None], LineageEnd::Entry)), "no_permit");
    assert_eq!(said(run()), "no_permit");
    // What it executes itself is no ancestor, and neither is the name of one.
    assert_eq!(said(run().executable("/bin/a", &a)), "no_permit");
}

#[test]
fn an_ancestor_is_excluded_where_all_of_them_are_known() {
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let set = set(&format!(
        r#"permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x");
           forbid (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x")
           unless {{ context.lineage.complete && !context.lineage.ancestors.contains("{a}") }};"#
    ));
    let said = |asker: Asker| word(&asker.call(&set, "GET api.x/"));
    let run = || Asker::new("run/x");
    assert_eq!(said(run().started_by(&[Some(&b)], LineageEnd::Entry)), "allow");
    assert_eq!(said(run().started_by(&[], LineageEnd::Entry)), "allow");
    assert_eq!(said(run().started_by(&[Some(&b), Some(&a)], LineageEnd::Entry)), "forbidden");
    assert_eq!(said(run().started_by(&[Some(&b), None], LineageEnd::Entry)), "forbidden");
    assert_eq!(said(run().started_by(&[Some(&b)], LineageEnd::Cut)), "forbidden");
    assert_eq!(said(run()), "forbidden");
}

#[test]
fn to_exclude_an_ancestor_without_knowing_all_of_them_is_warned_of() {
    let text = |effect: &str, more: &str| {
        format!(
            r#"{effect} (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x")
               when {{ context.lineage.ancestors.contains("00") {more} }};"#
        )
    };
    let warned = |effect: &str, more: &str| {
        let (_, warnings) = parse(&text(effect, more)).unwrap();
        warnings.iter().any(|warning| warning.rule == Rule::Exceeds && warning.severity == Severity::Warning)
    };
    assert!(warned("forbid", ""));
    assert!(!warned("forbid", "|| !context.lineage.complete"));
    assert!(!warned("permit", ""));
}
