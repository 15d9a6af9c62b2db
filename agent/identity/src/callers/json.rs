//! Reads JSON that has one reading: an object that states a key twice is refused, at every depth.
//!
//! `serde_json` keeps the last of two equal keys, other readers the first, so that a token could say two things.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::TokenError;

/// Deepest nesting. Tokens and key sets nest three or four deep.
const DEPTH_MAX: usize = 16;

/// What the errors of duplicates begin with; ours alone, and without a byte of the input.
const DUPLICATE: &str = "a key stands twice";

/// Reads one JSON object, and nothing after it.
///
/// # Errors
/// [`TokenError::Duplicate`] for a repeated key, [`TokenError::Malformed`] for everything else that is wrong.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, TokenError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Strict { depth: 0 }.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match read {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(TokenError::Malformed),
        Err(error) if error.to_string().starts_with(DUPLICATE) => Err(TokenError::Duplicate),
        Err(_) => Err(TokenError::Malformed),
    }
}

/// Every string that the top level of an object states for `key`, for an object that need not be strict.
///
/// Tells whom a token claims to be from, before it is decided whether it is ours to judge.
/// What is no JSON object states nothing.
pub(super) fn stated(bytes: &[u8], key: &str) -> Vec<String> {
    let mut found = Vec::new();
    // What was found before the JSON broke counts: a token that names an issuer and is then broken is that
    // issuer's to refuse. So the error says nothing.
    let _broken =
        serde_json::Deserializer::from_slice(bytes).deserialize_map(Stated { key, found: &mut found }).is_err();
    found
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX { Err(E::custom("too deep")) } else { Ok(Self { depth: self.depth + 1 }) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(deeper)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(de::Error::custom(DUPLICATE));
            }
            object.insert(key, entries.next_value_seed(deeper)?);
        }
        Ok(Value::Object(object))
    }
}

struct Stated<'k> {
    key: &'k str,
    found: &'k mut Vec<String>,
}

impl<'de> Visitor<'de> for Stated<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            if let (Value::String(value), true) = (entries.next_value::<Value>()?, key == self.key) {
                self.found.push(value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_serde_reads_where_nothing_stands_twice() {
        let text = br#" {"a": 1, "b": [-2, 1.5, null, true, "\u0041"], "c": {"a": {}}} "#;
        assert_eq!(Value::Object(object(text).unwrap()), serde_json::from_slice::<Value>(text).unwrap());
    }

    #[test]
    fn refuses_a_key_that_stands_twice_at_any_depth_in_any_spelling() {
        for text in [
            r#"{"iss":"a","iss":"b"}"#,
            r#"{"iss":"a","\u0069ss":"a"}"#,
            r#"{"x":{"a":1,"a":1}}"#,
            r#"{"x":[{"a":1,"a":1}]}"#,
        ] {
            assert_eq!(object(text.as_bytes()), Err(TokenError::Duplicate), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_object_or_nests_without_end() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(20), "]".repeat(20));
        for text in ["", "[]", "1", "{} {}", "{}x", "{\"a\":1", "{\"a\":1e999}", "{\"a\":\"\u{1}\"}", &deep] {
            assert_eq!(object(text.as_bytes()), Err(TokenError::Malformed), "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(TokenError::Malformed));
    }

    #[test]
    fn finds_what_is_stated_also_twice_and_also_before_a_fault() {
        assert_eq!(stated(br#"{"iss":"a","x":{"iss":"c"},"iss":"b"}"#, "iss"), ["a", "b"]);
        assert_eq!(stated(br#"{"iss":"a","#, "iss"), ["a"]);
        assert_eq!(stated(br#"{"iss":1}"#, "iss"), [""; 0]);
        assert_eq!(stated(br#"["iss"]"#, "iss"), [""; 0]);
    }
}
