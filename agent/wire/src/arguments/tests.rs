//! Every form of a value, and every trick to send one past a rule.

use callgate_model::{Argument, Decimal};
use proptest::prelude::*;

use super::*;

const JSON: &[u8] = b"application/json";
const FORM: &[u8] = b"application/x-www-form-urlencoded";

fn read(kind: &[u8], body: &[u8], query: &str) -> Result<Arguments, Unfit> {
    read_arguments(&Content { types: &[kind], encodings: &[], query, body })
}

fn json(body: &str) -> Result<Arguments, Unfit> {
    read(JSON, body.as_bytes(), "")
}

fn number(whole: impl Into<Option<i64>>, decimal: impl Into<Option<i64>>) -> Argument {
    Argument::Number { whole: whole.into(), decimal: decimal.into().map(Decimal) }
}

#[test]
fn json_by_pointer_and_kind() {
    let arguments = json(
        r#" {"amount": 5, "to": {"name": "Ann", "a/b~c": true}, "tags": ["x", "y", "x"], "mixed": [1, "x", null], "none": [], "": 1} "#,
    )
    .unwrap();
    let list = |items: &[&str]| Argument::List(items.iter().map(|item| (*item).to_owned()).collect());
    let expected = [
        ("", Argument::Nested),
        ("/", number(1, 10_000)),
        ("/amount", number(5, 50_000)),
        ("/mixed", Argument::Nested),
        ("/mixed/0", number(1, 10_000)),
        ("/mixed/1", Argument::Text("x".into())),
        ("/mixed/2", Argument::Other),
        ("/none", list(&[])),
        ("/tags", list(&["x", "y"])),
        ("/tags/0", Argument::Text("x".into())),
        ("/tags/1", Argument::Text("y".into())),
        ("/tags/2", Argument::Text("x".into())),
        ("/to", Argument::Nested),
        ("/to/a~1b~0c", Argument::Flag(true)),
        ("/to/name", Argument::Text("Ann".into())),
    ];
    let found: Vec<_> = arguments.iter().collect();
    assert_eq!(found, expected.iter().map(|(pointer, value)| (*pointer, value)).collect::<Vec<_>>());
    assert_eq!(json("7").unwrap().get(""), Some(&number(7, 70_000)));
}

#[test]
fn numbers_are_read_exactly() {
    for (text, whole, decimal) in [
        ("0", Some(0), Some(0)),
        ("-0", Some(0), Some(0)),
        ("-0.0e5", Some(0), Some(0)),
        ("0e99999999999999999999", Some(0), Some(0)),
        ("1000", Some(1_000), Some(10_000_000)),
        ("1e3", Some(1_000), Some(10_000_000)),
        ("1E+3", Some(1_000), Some(10_000_000)),
        ("1000.0", Some(1_000), Some(10_000_000)),
        ("0.1e1", Some(1), Some(10_000)),
        ("100e-2", Some(1), Some(10_000)),
        ("5000.5", None, Some(50_005_000)),
        ("-0.0001", None, Some(-1)),
        ("9223372036854775807", Some(i64::MAX), None),
        ("-9223372036854775808", Some(i64::MIN), None),
        ("922337203685477.5807", None, Some(i64::MAX)),
    ] {
        // Other numbers, and digits in strings, come before it: the lexer keeps step.
        let body = format!(r#"{{"5": ["7\"8", 9], "amount": {text}, "z": 3}}"#);
        assert_eq!(json(&body).unwrap().get("/amount"), Some(&number(whole, decimal)), "{text}");
        assert_eq!(json(&body).unwrap().get("/z"), Some(&number(3, 30_000)), "{text}");
    }
    for text in ["1000.00000000000000001", "0.00001", "9223372036854775808", "1e300", "1e-400", "5e-5"] {
        assert_eq!(json(&format!(r#"{{"a": {text}}}"#)).unwrap().get("/a"), Some(&Argument::Other), "{text}");
    }
}

#[test]
fn what_readers_of_json_disagree_on_is_unfit() {
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    for (body, unfit) in [
        (r#"{"a": 1, "a": 2}"#.into(), Unfit::Duplicate),
        (r#"{"a": 1, "\u0061": 2}"#.into(), Unfit::Duplicate),
        (r#"{"amount": 1, "Amount": 2}"#.into(), Unfit::Duplicate),
        (r#"{"o": {"x": 1}, "o": {"y": 1}}"#.into(), Unfit::Duplicate),
        (r#"{"o": {"x": 1, "x": 1}}"#.into(), Unfit::Duplicate),
        ("\u{feff}{}".into(), Unfit::ByteOrderMark),
        ("{} // x".into(), Unfit::Malformed),
        ("/* x */ {}".into(), Unfit::Malformed),
        (r#"{"a": NaN}"#.into(), Unfit::Malformed),
        (r#"{"a": Infinity}"#.into(), Unfit::Malformed),
        (r#"{"a": 1e999}"#.into(), Unfit::Malformed),
        (r#"{"a": 01}"#.into(), Unfit::Malformed),
        (r#"{"a": +1}"#.into(), Unfit::Malformed),
        (r#"{"a": .5}"#.into(), Unfit::Malformed),
        (r#"{"a": 0x10}"#.into(), Unfit::Malformed),
        (r#"{"a": 1,}"#.into(), Unfit::Malformed),
        (r#"{'a': 1}"#.into(), Unfit::Malformed),
        (r#"{a: 1}"#.into(), Unfit::Malformed),
        (r#"{"a": "\ud800"}"#.into(), Unfit::Malformed),
        ("{\"a\": \"\n\"}".into(), Unfit::Malformed),
        ("{} {}".into(), Unfit::Malformed),
        ("{}\0".into(), Unfit::Malformed),
        ("{".into(), Unfit::Malformed),
        (" ".into(), Unfit::Malformed),
        (deep(65), Unfit::TooDeep),
        (deep(500_000), Unfit::TooDeep),
        (format!("[{}1]", "1,".repeat(400_000)), Unfit::TooLarge),
        (format!(r#"{{"{}": [{}1]}}"#, "k".repeat(500_000), "1,".repeat(100)), Unfit::TooLarge),
    ] {
        assert_eq!(json(&body).map(|_| ()), Err(unfit), "{body:.60}");
    }
    assert_eq!(read(JSON, b"{\"a\": \"\xff\"}", ""), Err(Unfit::NotUtf8));
    assert!(json(&deep(64)).is_ok());
}

#[test]
fn forms_and_queries_are_texts() {
    let arguments = read(FORM, b"amount=5000&to=A%20b+c&a/b=%C3%A9&x[1]=1&x[2]=2&", "limit=10&flag").unwrap();
    let expected = [
        ("/amount", "5000"),
        ("/a~1b", "é"),
        ("/to", "A b c"),
        ("/x[1]", "1"),
        ("/x[2]", "2"),
        ("?flag", ""),
        ("?limit", "10"),
    ];
    let found: Vec<_> = arguments.iter().map(|(pointer, value)| (pointer, value.clone())).collect();
    assert_eq!(found, expected.map(|(pointer, text)| (pointer, Argument::Text(text.into()))));
    for (text, unfit) in [
        ("a=1&a=2", Unfit::Duplicate),
        ("a=1&%61=2", Unfit::Duplicate),
        ("a=1&A=2", Unfit::Duplicate),
        ("a=1&a[]=2", Unfit::Duplicate),
        ("a[]=1&a=2", Unfit::Duplicate),
        ("a[]=1&a[]=2", Unfit::Duplicate),
        ("a.b=1&a_b=2", Unfit::Duplicate),
        ("x=1;a=2", Unfit::Malformed),
        ("a=%zz", Unfit::Malformed),
        ("a=%4", Unfit::Malformed),
        ("+a=1", Unfit::Malformed),
        ("a%00=1", Unfit::Malformed),
        ("a=%ff", Unfit::NotUtf8),
    ] {
        assert_eq!(read(FORM, text.as_bytes(), ""), Err(unfit), "{text}");
        assert_eq!(read(JSON, b"", text), Err(unfit), "{text}");
    }
}

#[test]
fn a_name_in_query_and_body_is_there_twice() {
    for query in ["amount=1", "Amount=1"] {
        assert_eq!(read(FORM, b"amount=2", query), Err(Unfit::Duplicate));
        assert_eq!(read(JSON, br#"{"amount": 2}"#, query), Err(Unfit::Duplicate));
    }
    assert!(read(JSON, br#"{"x": {"amount": 2}}"#, "amount=1").is_ok());
    assert!(read(JSON, b"", "amount=1").is_ok());
}

#[test]
fn only_known_types_are_read() {
    let body = br#"{"a": 1}"#;
    for kind in [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/json;charset=\"utf-8\"",
        "application/vnd.api+json; version=1",
    ] {
        assert!(read(kind.as_bytes(), body, "").is_ok(), "{kind}");
    }
    for kind in [
        "",
        "json",
        "text/plain",
        "text/json",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/json; charset=utf-7",
        "application/json, text/plain",
        "application/json;",
        "application/ json",
        "application/+json",
        "application/grpc",
    ] {
        assert_eq!(read(kind.as_bytes(), body, ""), Err(Unfit::ContentType), "{kind}");
    }
    let with = |types: &[&[u8]], encodings: &[&[u8]]| {
        read_arguments(&Content { types, encodings, query: "", body }).map(|arguments| arguments.len())
    };
    assert_eq!(with(&[], &[]), Err(Unfit::ContentType));
    assert_eq!(with(&[JSON, JSON], &[]), Err(Unfit::ContentType));
    assert_eq!(with(&[JSON], &[b"gzip"]), Err(Unfit::ContentEncoded));
    assert_eq!(with(&[JSON], &[b"identity", b"br"]), Err(Unfit::ContentEncoded));
    assert_eq!(with(&[JSON], &[b"identity"]), Ok(2));
    let nothing = Content { types: &[b"multipart/form-data"], encodings: &[b"gzip"], query: "", body: b"" };
    assert_eq!(read_arguments(&nothing), Ok(Arguments::new()));
}

proptest! {
    #[test]
    fn any_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..200), query in any::<String>()) {
        for kind in [JSON, FORM] {
            let _ = read(kind, &body, &query);
        }
    }

    /// Whatever is read is what serde_json reads, and whatever serde_json refuses is refused.
    #[test]
    fn agrees_with_serde_json(tokens in proptest::collection::vec(token(), 1..24)) {
        let text = tokens.concat();
        let peer = serde_json::from_str::<serde_json::Value>(&text);
        match json(&text) {
            Ok(arguments) => {
                let peer = peer.unwrap();
                for (pointer, argument) in arguments.iter() {
                    let value = peer.pointer(pointer).unwrap();
                    match argument {
                        Argument::Text(text) => prop_assert_eq!(value.as_str(), Some(text.as_str())),
                        Argument::Flag(flag) => prop_assert_eq!(value.as_bool(), Some(*flag)),
                        Argument::Number { whole: Some(whole), .. } => prop_assert_eq!(value.as_f64(), Some(*whole as f64)),
                        Argument::Number { decimal: Some(Decimal(units)), .. } => {
                            prop_assert!((value.as_f64().unwrap() * 10_000.0 - *units as f64).abs() < 0.01);
                        }
                        _ => {}
                    }
                }
            }
            Err(Unfit::Malformed) => prop_assert!(peer.is_err(), "{}", text),
            Err(_) => {}
        }
    }
}

fn token() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"b\"",
        "\"a\":",
        "\"b\":",
        "\"\\\"1\"",
        "1",
        "-2.5",
        "1e2",
        "0.00001",
        "true",
        "null",
        " ",
        "\"",
        "\\",
        "{}",
        "[1,2]",
        "[\"x\"]",
        "\"é\"",
    ])
}
