//! Arguments: where they are said to be complete, plain readers of JSON and forms find the same values, and no more.

use std::collections::BTreeMap;

use callgate_model::{Argument, Arguments, Decimal, Unfit};
use callgate_wire::{ArgumentFormat, Content, read_arguments};
use serde_json::Value;

/// The first line is `TYPE?QUERY`, the rest is the body.
pub fn run(data: &[u8]) -> bool {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let Ok(line) = std::str::from_utf8(&data[..at]) else { return false };
    let (kind, query) = line.split_once('?').unwrap_or((line, ""));
    let body = data.get(at + 1..).unwrap_or_default();
    let types = [kind.as_bytes()];
    let read = read_arguments(&Content { types: &types, encodings: &[], query, body });
    match read {
        Ok(arguments) => {
            let format = ArgumentFormat::of(&types, &[]);
            let mut expected = form(query, "?");
            match format {
                _ if body.is_empty() => {}
                Ok(ArgumentFormat::Json) => {
                    let value = serde_json::from_slice(body).expect("what is complete is JSON");
                    walk(&value, String::new(), &mut expected);
                }
                Ok(ArgumentFormat::Form) => {
                    let text = std::str::from_utf8(body).expect("what is complete is text");
                    expected.extend(form(text, "/"));
                }
                Err(unfit) => panic!("complete, although {unfit}"),
            }
            compare(&arguments, &expected);
            true
        }
        Err(unfit) => {
            let json = ArgumentFormat::of(&types, &[]) == Ok(ArgumentFormat::Json);
            if json && query.is_empty() && unfit == Unfit::Malformed {
                assert!(serde_json::from_slice::<Value>(body).is_err(), "malformed, but a plain reader reads it");
            }
            false
        }
    }
}

/// Closed world: the same pointers in both, so a name that was there twice is not in what is complete.
fn compare(arguments: &Arguments, expected: &BTreeMap<String, Value>) {
    let ours: Vec<&str> = arguments.iter().map(|(pointer, _)| pointer).collect();
    let theirs: Vec<&str> = expected.keys().map(String::as_str).collect();
    assert_eq!(ours, theirs);
    for (pointer, argument) in arguments.iter() {
        assert!(agrees(argument, &expected[pointer]), "{pointer}: {argument:?} is not {}", expected[pointer]);
    }
}

fn agrees(argument: &Argument, value: &Value) -> bool {
    match argument {
        Argument::Text(text) => value.as_str() == Some(text),
        Argument::Flag(flag) => value.as_bool() == Some(*flag),
        Argument::List(items) => value.as_array().is_some_and(|array| {
            array.iter().all(|item| item.as_str().is_some_and(|item| items.contains(item)))
                && items.iter().all(|item| array.iter().any(|other| other.as_str() == Some(item)))
        }),
        Argument::Nested => value.is_object() || value.is_array(),
        Argument::Number { whole, decimal } => {
            // Ours is exact and theirs may be rounded: near is the same.
            let near = |ours: f64| value.as_f64().is_some_and(|theirs| (ours - theirs).abs() <= theirs.abs() * 1e-15);
            whole.is_none_or(|whole| value.as_i64().map_or_else(|| near(whole as f64), |theirs| theirs == whole))
                && decimal.is_none_or(|Decimal(units)| near(units as f64 / 10_000.0))
        }
        // What fits a kind exactly must be given to rules as that kind.
        Argument::Other => value.is_null() || value.is_number() && value.as_i64().is_none(),
    }
}

/// Every value of a document, by its pointer.
fn walk(value: &Value, pointer: String, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                walk(item, format!("{pointer}/{at}"), into);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                walk(field, format!("{pointer}/{}", escaped(name)), into);
            }
        }
        _ => {}
    }
    into.insert(pointer, value.clone());
}

/// Every field of a form: the last of each name.
fn form(text: &str, mark: &str) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = if mark == "/" { escaped(&decoded(name)) } else { decoded(name) };
        fields.insert(format!("{mark}{name}"), Value::String(decoded(value)));
    }
    fields
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    let mut parts = spaced.split('%');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.as_bytes().split_at_checked(2).expect("a broken escape is complete");
        let digits = std::str::from_utf8(digits).expect("hex digits are ASCII");
        out.push(u8::from_str_radix(digits, 16).expect("a broken escape is complete"));
        out.extend_from_slice(rest);
    }
    String::from_utf8(out).expect("what is complete is text")
}
