//! That each value of the chart has a comment, and stands in the schema, which knows no other; that versions agree.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

use super::{CHART, Renderer};

/// How many values there are.
///
/// # Errors
/// Names the first that is not documented or not in the schema.
pub fn check(repository: &Path, renderer: &Renderer) -> Result<usize> {
    let read = |name: &str| {
        let path = repository.join(CHART).join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let text = read("values.yaml")?;
    let values = renderer.parse(&text)?.pop().context("values.yaml is empty")?;
    let schema: Value = serde_json::from_str(&read("values.schema.json")?).context("values.schema.json")?;
    let counted = compare("", values.as_object().context("values are an object")?, &schema)?;
    documented(&text)?;
    let manifest: toml::Table = fs::read_to_string(repository.join("Cargo.toml"))?.parse()?;
    let version = manifest["workspace"]["package"]["version"].as_str().context("the workspace has a version")?;
    let chart = renderer.parse(&read("Chart.yaml")?)?.pop().context("Chart.yaml is empty")?;
    for key in ["version", "appVersion"] {
        ensure!(
            chart[key] == version,
            "Chart.yaml: `{key}` is {}, and the workspace's version is {version}",
            chart[key]
        );
    }
    Ok(counted)
}

/// That `values` and `schema` name the same, down to what the schema leaves open.
fn compare(place: &str, values: &Map<String, Value>, schema: &Value) -> Result<usize> {
    let Some(known) = schema.get("properties").and_then(Value::as_object) else { return Ok(1) };
    ensure!(schema["additionalProperties"] == false, "values.schema.json: `{place}` takes unknown keys");
    let mut counted = 0;
    for (key, value) in values {
        let place = format!("{place}{key}");
        let Some(schema) = known.get(key) else { bail!("values.schema.json does not know `{place}`") };
        counted += match value.as_object() {
            Some(below) => compare(&format!("{place}."), below, schema)?,
            None => 1,
        };
    }
    match known.keys().find(|key| !values.contains_key(*key)) {
        Some(key) => bail!("values.yaml has no default for `{place}{key}`"),
        None => Ok(counted),
    }
}

/// That before each key, or the object that it is in, a comment says what it is.
fn documented(text: &str) -> Result<()> {
    let mut above: Vec<(usize, bool)> = Vec::new();
    let mut commented = false;
    for (number, line) in text.lines().enumerate() {
        let words = line.trim_start();
        let depth = line.len() - words.len();
        if words.starts_with('#') || words.is_empty() {
            commented = !words.is_empty();
            continue;
        }
        above.retain(|(outer, _)| *outer < depth);
        let within = above.iter().any(|(_, commented)| *commented);
        // The sections themselves say it by their names.
        ensure!(commented || within || depth == 0, "values.yaml:{}: `{words}` has no comment", number + 1);
        above.push((depth, commented && depth > 0));
        commented = false;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_without_a_comment_is_named() {
        documented("a:\n  # What b is.\n  b: 1\n  # What c is.\n  c:\n    d: 1\n").unwrap();
        for (text, line) in [("a:\n  # What b is.\n  b: 1\n  c: 2\n", 4), ("a:\n  b:\n    # d\n    d: 1\n", 2)] {
            let error = documented(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("values.yaml:{line}: ")), "{error}");
        }
    }

    #[test]
    fn values_and_schema_name_the_same() {
        let closed = |properties: Value| json!({ "additionalProperties": false, "properties": properties });
        let check = |values: Value, schema: &Value| compare("", values.as_object().unwrap(), schema);
        let schema = closed(json!({ "a": closed(json!({ "b": {} })), "c": {} }));
        assert_eq!(check(json!({ "a": { "b": 1 }, "c": { "open": 1 } }), &schema).unwrap(), 2);
        for (values, why) in [
            (json!({ "a": { "b": 1, "x": 1 }, "c": 1 }), "does not know `a.x`"),
            (json!({ "a": {}, "c": 1 }), "no default for `a.b`"),
            (json!({ "a": { "b": 1 } }), "no default for `c`"),
        ] {
            let error = check(values, &schema).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let open = json!({ "properties": { "a": {} } });
        assert!(check(json!({ "a": 1 }), &open).unwrap_err().to_string().contains("takes unknown keys"));
    }
}
