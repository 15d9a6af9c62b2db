//! Observe mode on the real kernel: a client without our CA is broken once, and enforced it never gets through.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, Site, site};
use callgate_harness::{Finished, samples};

/// The cases of this file.
pub const CASES: &[Case] = &[Case::new(
    "a_client_without_our_ca_passes_on_its_second_try_where_it_is_observed",
    a_client_without_our_ca_passes_on_its_second_try_where_it_is_observed,
)
.needs(&["netns", "curl"])];

/// The exit code of curl for a certificate that it does not take.
const PEER_FAILED_VERIFICATION: i32 = 60;

/// By a client that trusts the service's authority alone: its answer proves that the service's own certificate came.
fn pinned(site: &Site) -> Result<Finished> {
    let authority = site.path("upstream.pem").display().to_string();
    site.curl(&["--cacert", &authority, &site.api_url("/v1/users/7")])
}

fn a_client_without_our_ca_passes_on_its_second_try_where_it_is_observed() -> Result<()> {
    let mut site = Site::without_agent()?;
    site.start_collector()?;
    site.start_agent()?;
    let enrolled = site.enrolled.display().to_string();
    site.callgate(&["enroll", &enrolled, "--name", "site", "--observe"])?.ok()?;

    let first = pinned(&site)?;
    ensure!(first.code() == PEER_FAILED_VERIFICATION, "{first:?}");
    let refused = site.records("connection", "the refusal", |records| !records.is_empty())?;
    ensure!(refused[0]["reason"] == "client_tls" && refused[0]["uninspected"].is_null(), "{}", refused[0]);

    let second = pinned(&site)?.ok()?;
    ensure!(second.stdout.ends_with("\n200") && second.stdout.contains(&samples::email(7)), "{second:?}");
    let records = site.records("connection", "the second connection", |records| records.len() == 2)?;
    let passed = records.iter().find(|record| record["outcome"] == "complete").context("none passed")?;
    ensure!(passed["uninspected"] == "certificate_refused" && passed["inspected"] == false, "{passed}");
    ensure!(passed["workload"] == "cgroup/site" && !passed["decision"].is_null(), "{passed}");

    let service = format!("{}:{}", site::API, site.api.address().port());
    let shown = site.callgate(&["discover", "--json"])?.ok()?.stdout;
    let row: serde_json::Value = serde_json::from_str(shown.lines().next().context("no row")?)?;
    ensure!(row["service"] == service.as_str() && row["function"] == "" && row["count"] == 2, "{row}");
    ensure!(row["uninspected"][0] == "certificate_refused" && row["reasons"][0] == "client_tls", "{row}");
    let table = site.callgate(&["discover"])?.ok()?.stdout;
    ensure!(table.contains(&format!("{service} (uninspected: certificate_refused)")), "{table}");
    let draft = site.callgate(&["policy", "suggest"])?.ok()?.stdout;
    ensure!(draft.contains("@tls(\"passthrough\")") && draft.contains(&service), "{draft}");

    // Enforced, the same client fails however often it tries, and one that trusts us is opened.
    site.callgate(&["enroll", &enrolled, "--name", "site", "--replace"])?.ok()?;
    for tries in 0..3 {
        let refused = pinned(&site)?;
        ensure!(refused.code() == PEER_FAILED_VERIFICATION, "try {tries}: {refused:?}");
    }
    let opened = site.curl(&[&site.api_url("/v1/users/7")])?.ok()?;
    ensure!(opened.stdout.ends_with("\n200") && !opened.stdout.contains(&samples::email(7)), "{opened:?}");
    let again = site.records("connection", "every connection", |records| records.len() == 6)?;
    let unopened = |record: &&serde_json::Value| !record["uninspected"].is_null();
    ensure!(again.iter().filter(unopened).count() == 1, "{again:?}");
    ensure!(site.api.wait_for(2, Duration::from_secs(10))?.len() == 2, "{:?}", site.api.requests());
    Ok(())
}
