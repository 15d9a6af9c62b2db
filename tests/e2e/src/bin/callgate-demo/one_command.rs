//! `callgate run`: one command behind the gate, with an agent and a collector of its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use callgate_e2e::Site;
use callgate_harness::run;

use crate::clients::{Answer, USER_PATH};
use crate::records;
use crate::table::Table;

/// Shows it; how many requests of it the upstream got, which the site's own collector knows nothing of.
pub fn show(table: &mut Table, site: &Site) -> usize {
    let before = site.api.request_count();
    table.row("callgate run -- curl …/v1/users/7", "200, masked, recorded, chain whole", || {
        let masked = one_command(site)?;
        let store = site.path("state/store");
        let calls = records::search(&store)?.iter().filter(|record| record["kind"] == "begin").count();
        ensure!(calls == 1, "{calls} calls in its store");
        Ok(format!("{masked}\n{calls} call recorded; {}", records::verify(&store)?))
    });
    site.api.request_count() - before
}

fn one_command(site: &Site) -> Result<String> {
    let mut words = vec!["curl".to_owned(), "--noproxy".into(), "*".into()];
    words.extend(site.curl_arguments());
    words.push(site.api_url(USER_PATH));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let finished = run(site.run(&["--as", "demo"], &words)?, Duration::from_secs(60))?.ok()?;
    Answer::of(&finished.stdout).masked()
}
