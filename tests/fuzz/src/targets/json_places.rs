//! Masking by place: the same bytes at every cut, exactly the values at the places replaced, JSON stays JSON.

use std::sync::{Arc, LazyLock};

use callgate_mask::{JsonPlaces, MaskError, Rules, kinds_named};
use callgate_model::Masking;
use serde_json::Value;

use crate::pieces;

/// The places that are masked, and longest keys that are followed.
const PLACES: [&str; 3] = ["/a", "/users/*/name", "/x~1y/0"];
const KEY_MAX: usize = 4096;
const LABEL: &str = "[masked]";

static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| {
    let words = PLACES.map(|place| format!("json:{place}")).join(",");
    Rules::new(&Masking::parse(&words, kinds_named).expect("words of policies"), Arc::default(), None)
});

pub fn run(data: &[u8]) -> bool {
    let whole = mask(&[data]);
    pieces::each(data, |pieces| assert_eq!(mask(pieces), whole));
    let (masked, count, result) = whole;
    let before: Value = match std::str::from_utf8(data).map(serde_json::from_str) {
        Ok(Ok(value)) => value,
        _ => return false,
    };
    if result.is_err() {
        assert!(data.len() > KEY_MAX, "JSON is refused: {result:?}");
        return false;
    }
    let after: Value = serde_json::from_slice(&masked).expect("JSON stays JSON");
    let mut path = Vec::new();
    compare(&before, &after, false, &mut path);
    assert!(count > 0 || masked == data, "changed without a value to mask");
    count > 0
}

fn mask(pieces: &[&[u8]]) -> (Vec<u8>, u64, Result<(), MaskError>) {
    let mut places = JsonPlaces::new(&RULES).expect("there are places");
    let mut out = Vec::new();
    let pushed = pieces.iter().try_for_each(|piece| places.push(piece, &mut out));
    let result = pushed.and_then(|()| places.finish(&mut out));
    (out, places.masked(), result)
}

/// What stands at a place, or below one, says nothing any more; everything else is as it was.
fn compare(before: &Value, after: &Value, masked: bool, path: &mut Vec<String>) {
    let masked = masked || PLACES.iter().any(|place| is_at(place, path));
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            assert!(before.keys().eq(after.keys()));
            for (key, value) in before {
                path.push(key.replace('~', "~0").replace('/', "~1"));
                compare(value, &after[key], masked, path);
                path.pop();
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len());
            for (at, (value, after)) in before.iter().zip(after).enumerate() {
                path.push(at.to_string());
                compare(value, after, masked, path);
                path.pop();
            }
        }
        (Value::String(_), Value::String(after)) if masked => assert_eq!(after, LABEL),
        (Value::Bool(_) | Value::Null, after) if masked => assert!(after.is_null()),
        (Value::Number(_), Value::Number(after)) if masked => {
            let digits = after.to_string();
            let plain = digits.trim_start_matches('1').chars().all(|digit| matches!(digit, '0' | '.' | 'e' | '+'));
            assert!(plain || digits.parse::<f64>().is_ok_and(|number| number > 1e15), "{digits}");
        }
        _ => assert_eq!(before, after),
    }
}

fn is_at(place: &str, path: &[String]) -> bool {
    let segments: Vec<&str> = place.split('/').skip(1).collect();
    segments.len() == path.len() && segments.iter().zip(path).all(|(segment, key)| *segment == "*" || segment == key)
}
