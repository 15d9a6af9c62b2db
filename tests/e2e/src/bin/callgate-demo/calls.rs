//! Calls that the policy permits, one that it forbids, and ways around that the kernel stops.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::Site;
use callgate_harness::Canary;

use crate::clients::{self, USER_PATH};
use crate::records;
use crate::table::Table;

/// How many requests the upstream gets from outside of the gate in [`show`].
pub const OUTSIDE: usize = 1;

/// How the kernel refuses what goes around the proxy: a datagram at `sendto`, a raw socket at `socket`.
const REFUSED: [&str; 2] = ["udp EACCES", "raw EPROTONOSUPPORT"];

/// Shows them.
pub fn show(table: &mut Table, site: &Site, canary: &Canary) {
    table.row("GET /v1/users/7 by curl, not enrolled", "200, the record as it is", || {
        let answer = clients::curl_outside(site)?;
        ensure!(answer.status == 200 && answer.masked().is_err(), "status {}: {}", answer.status, answer.body);
        Ok("200, unmasked".to_owned())
    });
    table.row("the same by curl, enrolled, over TLS", "200, e-mail and card masked", || {
        clients::curl(site, &[&site.api_url(USER_PATH)])?.masked()
    });
    table.row("the same by Python, enrolled, over TLS", "200, e-mail and card masked", || {
        clients::python(site)?.masked()
    });
    table.row("DELETE /v1/users/7 by curl", "403 by policy, upstream never sees it", || denied(site));
    table.row("UDP, raw socket, TCP to another server", "refused; the server hears nothing", || {
        let port = canary.address().port();
        let seen = clients::direct(site, port)?;
        // A datagram that was let through would be there by now.
        std::thread::sleep(Duration::from_millis(300));
        canary.silent()?;
        let refused = REFUSED.iter().all(|line| seen.iter().any(|seen| seen == line));
        ensure!(refused && seen.iter().any(|line| line.starts_with("tcp ")), "seen: {seen:?}");
        ensure!(!seen.iter().any(|line| line.contains("answered")), "somebody answered: {seen:?}");
        Ok(format!("{}; silent", seen.join(", ")))
    });
    table.row("the kernel's refusals in the trail", "kernel_denial: udp and protocol", || {
        let events = ["udp", "protocol"];
        let of =
            |record: &serde_json::Value, event: &str| record["kind"] == "kernel_denial" && record["event"] == event;
        let records = records::until("kernel denials", &site.path("store"), |records| {
            events.iter().all(|event| records.iter().any(|record| of(record, event)))
        })?;
        let found = records.iter().find(|record| of(record, "udp")).context("a record of the datagram")?;
        Ok(format!("udp to {} by pid {} of {}", text(found, "destination"), found["pid"], text(found, "workload")))
    });
}

fn denied(site: &Site) -> Result<String> {
    let before = site.api.request_count();
    let answer = clients::curl(site, &["--request", "DELETE", &site.api_url(USER_PATH)])?;
    ensure!(answer.status == 403, "status {}: {}", answer.status, answer.body);
    ensure!(answer.body.contains("forbidden"), "no reason in the body: {}", answer.body);
    ensure!(answer.body.contains("demo-no-delete"), "no policy id in the body: {}", answer.body);
    let arrived = site.api.requests().iter().filter(|request| request.method == "DELETE").count();
    ensure!(arrived == 0 && site.api.request_count() == before, "{arrived} DELETE calls reached the upstream");
    Ok("403 forbidden by demo-no-delete; upstream log: nothing".to_owned())
}

fn text<'a>(record: &'a serde_json::Value, field: &str) -> &'a str {
    record[field].as_str().unwrap_or_default()
}
