//! `callgate doctor` in a pod of the node: what the agent needs of the kernel is to be had from within a container.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{Site, Step, pod};

pub const STEP: Step = Step { name: "doctor, in a pod of the node", run };

/// One line of what it prints.
#[derive(Deserialize)]
struct Feature {
    name: String,
    ok: bool,
    required: bool,
}

fn run(site: &Site<'_>) -> Result<String> {
    let said = pod::on_every_node(site, "doctor", &["/usr/bin/callgate", "doctor", "--json"])?;
    let mut notes = said.iter().map(|said| note(said)).collect::<Result<Vec<_>>>()?;
    notes.dedup();
    Ok(notes.join("; "))
}

/// What is there of `said`; an error if something is missing that must be.
fn note(said: &str) -> Result<String> {
    let read = |line| serde_json::from_str::<Feature>(line).with_context(|| format!("doctor says `{line}`"));
    let features: Vec<Feature> = said.lines().filter(|line| line.starts_with('{')).map(read).collect::<Result<_>>()?;
    let names = |of: &dyn Fn(&Feature) -> bool| {
        let named: Vec<_> =
            features.iter().filter(|feature| of(feature)).map(|feature| feature.name.as_str()).collect();
        named.join(", ")
    };
    let missing = names(&|feature| feature.required && !feature.ok);
    ensure!(missing.is_empty(), "missing: {missing}");
    let present = features.iter().filter(|feature| feature.ok).count();
    ensure!(features.iter().any(|feature| feature.required), "doctor looked at nothing that is needed");
    let absent = names(&|feature| !feature.ok);
    let without = if absent.is_empty() { String::new() } else { format!(", without {absent}") };
    Ok(format!("{present} features{without}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_there_is_and_something_was_looked_at() {
        let line = |name: &str, ok: bool, required: bool| {
            format!(r#"{{"name":"{name}","ok":{ok},"required":{required},"detail":"","without":""}}"#)
        };
        let good = format!("a word\n{}\n{}\n", line("cgroup2", true, true), line("lsm", false, false));
        assert_eq!(note(&good).unwrap(), "1 features, without lsm");
        assert!(note(&line("cgroup2", false, true)).unwrap_err().to_string().contains("cgroup2"));
        assert!(note("").is_err());
        assert!(note(&line("lsm", true, false)).is_err());
        assert!(note("{").is_err());
    }
}
