//! The records of all of it, read back from the collector's store by `callgate audit`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::Site;
use callgate_harness::{eventually, program, run};
use serde_json::Value;

use crate::table::Table;

/// Shows them. `outside` of the upstream's requests did not come through the site's agent.
pub fn show(table: &mut Table, site: &Site, outside: usize) {
    let mut records = Vec::new();
    table.row("every call in the trail", "all that the upstream saw, and denials", || {
        let (found, seen) = counts(site, outside)?;
        records = found;
        Ok(seen)
    });
    table.row("kernel denials in the trail", "at least 2", || {
        let events = tally(&records, "kernel_denial", |record| word(&record["event"]));
        ensure!(events.values().sum::<usize>() >= 2, "only {events:?}");
        Ok(shown(&events))
    });
    table.row("calls that the kill cut", "interrupted, none left open", || {
        let outcomes = tally(&records, "end", |record| word(&record["outcome"]));
        let (begun, ended) = (of_kind(&records, "begin"), of_kind(&records, "end"));
        ensure!(begun > 0 && begun == ended, "{begun} calls began, {ended} ended: {outcomes:?}");
        Ok(shown(&outcomes))
    });
    table.row("callgate audit verify", "every chain whole", || verify(&site.path("store")));
}

fn counts(site: &Site, outside: usize) -> Result<(Vec<Value>, String)> {
    let seen = site.api.request_count().saturating_sub(outside);
    let decided = |records: &[Value]| tally(records, "begin", |record| word(&record["decision"]["verdict"]));
    let of = |counts: &BTreeMap<String, usize>, verdict: &str| counts.get(verdict).copied().unwrap_or(0);
    let records = until("a record of every call", &site.path("store"), |records| {
        of(&decided(records), "allow") >= seen && of_kind(records, "begin") == of_kind(records, "end")
    })?;
    let counts = decided(&records);
    ensure!(of(&counts, "deny") > 0, "no refusal in {counts:?}");
    let said = format!("{}; upstream saw {seen}", shown(&counts));
    Ok((records, said))
}

/// All of them, once `enough` says so: they come a moment after what they tell of.
pub fn until(what: &str, store: &Path, enough: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
    let mut last = 0;
    let found = eventually(what, Duration::from_secs(20), || {
        let records = search(store).ok()?;
        last = records.len();
        enough(&records).then_some(records)
    });
    found.with_context(|| format!("{last} records in the end"))
}

/// All records of a store but the pieces of bodies.
pub fn search(store: &Path) -> Result<Vec<Value>> {
    let finished = audit(&["search", "--json", "--limit", "1000000"], store)?;
    finished.lines().map(|line| serde_json::from_str(line).context("a record as JSON")).collect()
}

/// That every chain of a store is whole.
pub fn verify(store: &Path) -> Result<String> {
    let finished = audit(&["verify", "--json"], store)?;
    let chains: Vec<Value> = finished.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(!chains.is_empty() && chains.iter().all(|chain| chain["whole"] == true), "{chains:?}");
    let chains: Vec<_> =
        chains.iter().map(|chain| format!("{} whole, {} records", word(&chain["stream"]), chain["records"])).collect();
    Ok(chains.join("; "))
}

fn audit(arguments: &[&str], store: &Path) -> Result<String> {
    let mut audit = Command::new(program("callgate")?);
    audit.arg("audit").args(arguments).arg("--store").arg(store);
    Ok(run(audit, Duration::from_secs(60))?.ok()?.stdout)
}

fn tally(records: &[Value], kind: &str, of: impl Fn(&Value) -> String) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in records.iter().filter(|record| record["kind"] == kind) {
        *counts.entry(of(record)).or_default() += 1;
    }
    counts
}

fn of_kind(records: &[Value], kind: &str) -> usize {
    records.iter().filter(|record| record["kind"] == kind).count()
}

fn shown(counts: &BTreeMap<String, usize>) -> String {
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}
