//! Rules about arguments hold however a value is sent.

use callgate_model::{Arguments, Reason, Unfit};
use callgate_wire::{Content, read_arguments};

use super::examples::example;
use super::{Asker, errors, parse, set, word};
use crate::{PolicySet, Rule};

const JSON: &[u8] = b"application/json";
const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// A way to send a request: content type, content encoding, query, body.
type Way<'a> = (&'a [u8], &'a [u8], &'a str, &'a str);

fn read((kind, coding, query, body): Way<'_>) -> Result<Arguments, Unfit> {
    let encodings: &[&[u8]] = if coding.is_empty() { &[] } else { &[coding] };
    read_arguments(&Content { types: &[kind], encodings, query, body: body.as_bytes() })
}

fn answer(set: &PolicySet, call: &str, way: Way<'_>) -> &'static str {
    word(&Asker::new("run/support").sending(read(way)).call(set, call))
}

const REFUND: &str = "POST payments.example.com/v1/refunds";

/// Each rule of the example that limits something, with a body that fits (and its query), and the field that is
/// varied, with a value beyond the limit for each way of writing it.
struct Limit {
    call: &'static str,
    query: &'static str,
    /// `FIELD` stands for the field with its value.
    body: &'static str,
    field: &'static str,
    fits: &'static [&'static str],
    exceeds: &'static [(&'static str, &'static str)],
}

const LIMITS: &[Limit] = &[
    Limit {
        call: REFUND,
        query: "",
        body: "{\"order\": \"A-7\", FIELD}",
        field: "amount",
        fits: &["1", "1000", "1e3", "1000.0", "10e-1"],
        exceeds: &[
            ("5000", "forbidden"),
            ("1001", "forbidden"),
            ("5e3", "forbidden"),
            ("0.5E4", "forbidden"),
            ("5000.0", "forbidden"),
            ("-5", "forbidden"),
            ("9223372036854775807", "forbidden"),
            ("5000.5", "arguments_unfit"),
            ("1000.00000000000000001", "arguments_unfit"),
            ("9223372036854775808", "arguments_unfit"),
            ("1e300", "arguments_unfit"),
            ("1e999", "arguments_unfit"),
            ("\"5000\"", "arguments_unfit"),
            ("[5000]", "arguments_unfit"),
            ("[\"5000\"]", "arguments_unfit"),
            ("{\"value\": 5000}", "arguments_unfit"),
            ("null", "arguments_unfit"),
            ("true", "arguments_unfit"),
            ("NaN", "arguments_unfit"),
            ("0x1388", "arguments_unfit"),
            ("5000 /* 1 */", "arguments_unfit"),
            ("1, \"amount\": 5000", "arguments_unfit"),
            ("1, \"am\\u006funt\": 5000", "arguments_unfit"),
            ("1, \"Amount\": 5000", "arguments_unfit"),
        ],
    },
    Limit {
        call: "POST payments.example.com/v1/transfers",
        query: "",
        body: "{\"currency\": \"EUR\", \"accounts\": [\"DE01\"], FIELD}",
        field: "amount",
        fits: &["1", "250.5", "250.50", "2505e-1", "0.0001"],
        exceeds: &[
            ("250.51", "no_permit"),
            ("251", "no_permit"),
            ("1e3", "no_permit"),
            ("-1", "no_permit"),
            ("250.50001", "arguments_unfit"),
            ("1e15", "arguments_unfit"),
            ("\"1\"", "arguments_unfit"),
            ("1, \"amount\": 5000", "arguments_unfit"),
        ],
    },
    Limit {
        call: "POST payments.example.com/v1/transfers",
        query: "",
        body: "{\"currency\": \"EUR\", \"amount\": 1, FIELD}",
        field: "accounts",
        fits: &["[\"DE01\"]", "[\"CH02\", \"DE01\", \"DE01\"]"],
        exceeds: &[
            ("[\"XX99\"]", "no_permit"),
            ("[\"DE01\", \"XX99\"]", "no_permit"),
            ("\"XX99\"", "arguments_unfit"),
            ("[\"DE01\", 5]", "arguments_unfit"),
            ("[\"DE01\", null]", "arguments_unfit"),
            ("[[\"DE01\"]]", "arguments_unfit"),
            ("{\"0\": \"XX99\"}", "arguments_unfit"),
        ],
    },
    Limit {
        call: "POST payments.example.com/v1/exports",
        query: "limit=10",
        body: "{FIELD}",
        field: "dry_run",
        fits: &["true"],
        exceeds: &[("false", "no_permit"), ("\"true\"", "arguments_unfit"), ("1", "arguments_unfit")],
    },
];

#[test]
fn the_limits_of_the_example_hold_however_a_value_is_sent() {
    let (set, warnings) = example("arguments");
    assert_eq!(warnings, []);
    for limit in LIMITS {
        let body = |value: &str| limit.body.replace("FIELD", &format!("\"{}\": {value}", limit.field));
        for value in limit.fits {
            assert_eq!(answer(&set, limit.call, (JSON, b"", limit.query, &body(value))), "allow", "{value}");
        }
        for (value, expected) in limit.exceeds {
            let body = body(value);
            assert_eq!(answer(&set, limit.call, (JSON, b"", limit.query, &body)), *expected, "{body}");
        }
        // Absent: nothing to fit the limit.
        let without = limit.body.replace(", FIELD", "").replace("FIELD", "");
        assert!(["forbidden", "no_permit"].contains(&answer(&set, limit.call, (JSON, b"", limit.query, &without))));
        assert!(["forbidden", "no_permit"].contains(&answer(&set, limit.call, (JSON, b"", limit.query, ""))));
        // What would fit, were it sent as it should be.
        let fits = body(limit.fits[0]);
        let form = format!("{}={}", limit.field, limit.fits[0]);
        let form_and_query = format!("{}={}", limit.field, limit.exceeds[0].0);
        for way in [
            (FORM, b"".as_slice(), limit.query, form.as_str()),
            (b"multipart/form-data; boundary=x".as_slice(), b"", limit.query, &fits),
            (b"text/plain", b"", limit.query, &fits),
            (b"application/xml", b"", limit.query, &fits),
            (b"application/json; charset=utf-16", b"", limit.query, &fits),
            (b"", b"", limit.query, &fits),
            (JSON, b"gzip", limit.query, &fits),
            (JSON, b"", limit.query, &format!("\u{feff}{fits}")),
            (JSON, b"", limit.query, &format!("{fits} {fits}")),
            (JSON, b"", &format!("{}&{}", limit.query, form_and_query), &fits),
        ] {
            assert_eq!(answer(&set, limit.call, way), "arguments_unfit", "{way:?}");
        }
    }
}

#[test]
fn a_limit_on_the_query_holds_too() {
    let (set, _) = example("arguments");
    let export = "POST payments.example.com/v1/exports";
    let query = |query: &str| answer(&set, export, (JSON, b"", query, "{\"dry_run\": true}"));
    for (sent, expected) in [
        ("limit=10", "allow"),
        ("limit=1%30", "allow"),
        ("limit=100000", "no_permit"),
        ("limit=010", "no_permit"),
        ("limit=+10", "no_permit"),
        ("limit=", "no_permit"),
        ("", "no_permit"),
        ("LIMIT=100000", "no_permit"),
        ("limit=10&limit=100000", "arguments_unfit"),
        ("limit=10&LIMIT=100000", "arguments_unfit"),
        ("limit=10&limit[]=100000", "arguments_unfit"),
        ("limit=10&l%69mit=100000", "arguments_unfit"),
        ("x=1;limit=100000&limit=10", "arguments_unfit"),
        ("limit=10&%zz", "arguments_unfit"),
    ] {
        assert_eq!(query(sent), expected, "{sent}");
    }
}

#[test]
fn arguments_that_were_not_read_deny_only_where_a_rule_names_them() {
    let set = set(r#"
        @id("all") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x");
        @id("limit") forbid (principal, action == Callgate::Action::"call", resource == Callgate::Function::"http:POST api.x/pay")
        unless { context.arguments.number.hasTag("/n") && context.arguments.number.getTag("/n") < 10 };
    "#);
    let run = Asker::new("run/x");
    let denied = run.call(&set, "POST api.x/pay").unwrap_err();
    assert_eq!((denied.reason, denied.policies), (Reason::ArgumentsUnfit, vec!["limit".to_owned()]));
    assert_eq!(word(&run.call(&set, "GET api.x/pay")), "allow");
    let connect = run.connect(&set, "api.x:443").unwrap();
    assert!(set.wants_arguments(&connect, &run.function("POST api.x/pay")));
    assert!(!set.wants_arguments(&connect, &run.function("GET api.x/pay")));
    // In observe mode the would-be denial is kept, and the call goes.
    let mut run = Asker::new("run/x").sending(Err(Unfit::TooLarge));
    run.workload.mode = callgate_model::Mode::Observe;
    let permit = run.call(&set, "POST api.x/pay").unwrap();
    assert!(permit.observed() && permit.decision().reason == Reason::ArgumentsUnfit);
}

#[test]
fn every_unfit_cause_denies() {
    let (set, _) = example("arguments");
    for &cause in Unfit::ALL {
        assert_eq!(word(&Asker::new("run/support").sending(Err(cause)).call(&set, REFUND)), "arguments_unfit");
    }
}

#[test]
fn a_computed_tag_counts_as_all() {
    let set = set(r#"permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x")
           when { context.arguments.text.hasTag(resource.path) && context.arguments.text.getTag(resource.path) == "x" };"#);
    let ask = |body: &str| answer(&set, "POST api.x/a", (JSON, b"", "", body));
    assert_eq!(ask(r#"{"a": "x", "b": "y"}"#), "allow");
    assert_eq!(ask(r#"{"a": "y"}"#), "no_permit");
    assert_eq!(ask(r#"{"a": "x", "b": 5}"#), "arguments_unfit");
}

#[test]
fn an_argument_under_two_kinds_is_judged_by_each_rule() {
    let set = set(r#"
        @id("a") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x")
        when { context.arguments.text.hasTag("/a") };
        @id("b") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x")
        when { context.arguments.number.hasTag("/a") };
    "#);
    let denied =
        Asker::new("run/x").sending(read((JSON, b"", "", r#"{"a": 1}"#))).call(&set, "POST api.x/").unwrap_err();
    assert_eq!((denied.reason, denied.policies), (Reason::ArgumentsUnfit, vec!["a".to_owned()]));
}

#[test]
fn a_caller_and_a_workload_can_be_required_together() {
    let set = set(
        r#"permit (principal == Callgate::Workload::"run/x", action == Callgate::Action::"call", resource in Callgate::Service::"api.x")
           when { context has caller && context.caller.iss == "https://id.x" && context.caller.groups.contains("admins") };"#,
    );
    let call = |asker: Asker| word(&asker.call(&set, "GET api.x/"));
    assert_eq!(call(Asker::new("run/x").on_behalf("ann", &["staff", "admins"])), "allow");
    assert_eq!(call(Asker::new("run/x").on_behalf("ann", &["staff"])), "no_permit");
    assert_eq!(call(Asker::new("run/x")), "no_permit");
    let mut other = Asker::new("run/x").on_behalf("ann", &["admins"]);
    other.caller.as_mut().unwrap().iss = "https://evil.x".into();
    assert_eq!(call(other), "no_permit");
    assert!(Asker::new("run/y").on_behalf("ann", &["admins"]).connect(&set, "api.x:443").is_err());
}

/// A forbid with a condition.
fn forbid(condition: &str) -> String {
    format!(
        r#"permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x");
        forbid (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x") {condition};"#
    )
}

#[test]
fn forbidding_what_exceeds_is_warned_of() {
    let n = r#"context.arguments.number.hasTag("/n")"#;
    let get = r#"context.arguments.number.getTag("/n")"#;
    for (condition, warned) in [
        (format!("when {{ {n} && {get} > 1000 }}"), true),
        (format!("unless {{ !({n} && {get} > 1000) }}"), true),
        (format!("when {{ {n} }}"), true),
        (format!("unless {{ {n} && {get} <= 1000 }}"), false),
        (format!("when {{ !({n} && {get} <= 1000) }}"), false),
        (format!("when {{ !{n} }}"), false),
        (format!("unless {{ context.uid == 0 || ({n} && {get} <= 1000) }}"), false),
    ] {
        let (_, warnings) = parse(&forbid(&condition)).unwrap();
        let found = warnings.iter().any(|warning| warning.rule == Rule::Exceeds);
        assert_eq!(found, warned, "{condition}: {warnings:?}");
    }
    let permit = set(&format!(
        r#"permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x") when {{ {n} }};"#
    ));
    assert_eq!(permit.len(), 1);
}

#[test]
fn uses_that_cannot_be_seen_through_are_refused() {
    for (condition, part) in [
        (r#"context.arguments == context.arguments"#, "otherwise than by `hasTag`"),
        (r#"context.arguments.number == context.arguments.number"#, "otherwise than by `hasTag`"),
        (r#"[context.arguments.text].contains(context.arguments.text)"#, "otherwise than by `hasTag`"),
        (
            r#"(if resource.tls then context.arguments.text else context.arguments.text).hasTag("/a")"#,
            "otherwise than by `hasTag`",
        ),
        (r#"{"a": context.arguments.text}["a"].hasTag("/a")"#, "otherwise than by `hasTag`"),
        (r#"Callgate::TextArguments::"call".hasTag("/a")"#, "cannot be named"),
        (r#"context.arguments.number.hasTag("amount")"#, "did you mean `/amount`"),
        (r#"context.arguments.number.getTag("/a") > 1"#, "p.cedar:"),
        (r#"context.arguments.nubmer.hasTag("/a")"#, "number"),
        (r#"context.arguments.number.hasTag("/a") && context.arguments.number.getTag("/a") == "x""#, "p.cedar:"),
        (r#"context.caller.sub == "ann""#, "p.cedar:"),
    ] {
        let text = format!(
            r#"permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"api.x") when {{ {condition} }};"#
        );
        let errors = errors(&text);
        assert!(errors.iter().any(|error| error.contains(part)), "{condition}: {errors:#?}");
    }
    // A connection has no arguments.
    let text = r#"permit (principal, action == Callgate::Action::"connect", resource) when { context.arguments.flag.hasTag("/a") };"#;
    assert!(parse(text).is_err());
}
