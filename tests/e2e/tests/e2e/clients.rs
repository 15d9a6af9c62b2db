//! The clients that people use, each in an enrolled cgroup and under `callgate run`: allowed, masked, denied, by either
//! version of HTTP and by gRPC. What each does is in `clients/`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_e2e::{Case, PYTHON, Site, site};
use callgate_harness::{Finished, run, samples};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("curl_by_every_version", curl_by_every_version).needs(&["netns", "curl"]),
    Case::new("python_requests", python_requests).needs(&["netns", "python_http"]),
    Case::new("python_httpx_by_http2", python_httpx_by_http2).needs(&["netns", "python_http"]),
    Case::new("python_grpc", python_grpc).needs(&["netns", "python_grpc"]),
    Case::new("node_by_fetch_https_and_http2", node_by_fetch_https_and_http2).needs(&["netns", "node"]),
    Case::new("java_by_http2_and_an_offer_of_h2c", java_by_http2_and_an_offer_of_h2c).needs(&["netns", "java"]),
    Case::new("java_reads_the_whole_trust_store_of_a_run", java_reads_the_whole_trust_store_of_a_run)
        .needs(&["netns", "java"]),
];

const WITHIN: Duration = Duration::from_secs(60);

/// Runs a command in the enrolled cgroup of one site, and under `callgate run` on another.
fn both(command: impl Fn(&Site) -> Vec<String>, check: impl Fn(&Site, &Finished) -> Result<()>) -> Result<()> {
    let site = Site::new()?;
    let words = command(&site);
    let (program, arguments) = words.split_first().context("a program")?;
    let mut inside = site.inside(program);
    inside.args(arguments);
    let finished = run(inside, WITHIN)?.ok().context("in the enrolled cgroup")?;
    check(&site, &finished).context("in the enrolled cgroup")?;
    drop(site);

    let site = Site::without_agent()?;
    let words = command(&site);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let finished = run(site.run(&[], &words)?, WITHIN)?.ok().context("under callgate run")?;
    check(&site, &finished).context("under callgate run")
}

/// Holds three lines, each `PREFIX STATUS BODY`, against what the three calls must give.
fn three(lines: &[&str], prefix: &str) -> Result<()> {
    let [allowed, masked, denied] = lines else { anyhow::bail!("not three lines: {lines:?}") };
    ensure!(**allowed == format!(r#"{prefix} 200 {{"status":"ok"}}"#), "{allowed}");
    ensure!(masked.starts_with(&format!("{prefix} 200 ")) && masked.contains(&samples::name(7)), "{masked}");
    for secret in [samples::email(7), samples::card(7)] {
        ensure!(!masked.contains(&secret), "{masked}");
    }
    ensure!(denied.starts_with(&format!("{prefix} 403 ")) && denied.contains("no-deletes"), "{denied}");
    Ok(())
}

/// Every three lines of `finished` against one of `prefixes`.
fn threes(finished: &Finished, prefixes: &[&str]) -> Result<()> {
    let lines: Vec<&str> = finished.stdout.lines().collect();
    ensure!(lines.len() == 3 * prefixes.len(), "{}{}", finished.stdout, finished.stderr);
    lines.chunks(3).zip(prefixes).try_for_each(|(lines, prefix)| three(lines, prefix))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// No denied call went on: of three calls, two.
fn upstreams(site: &Site, api: usize, plain: usize) -> Result<()> {
    let seen = (site.api.request_count(), site.plain.request_count());
    ensure!(seen == (api, plain), "{seen:?} requests at the services");
    ensure!(!site.api.requests().iter().chain(&site.plain.requests()).any(|request| request.method == "DELETE"));
    Ok(())
}

fn curl_by_every_version() -> Result<()> {
    // Of each: its option, the TLS service or the plain one, and the version that is to be used.
    let ways = [
        ("--http2", true, "2"),
        ("--http1.1", true, "1.1"),
        ("--http2-prior-knowledge", false, "2"),
        ("--http1.1", false, "1.1"),
        // Offers h2c, which the gate passes over.
        ("--http2", false, "1.1"),
    ];
    let script = |site: &Site| {
        let mut script = String::new();
        let fixed = site
            .curl_arguments()
            .join(" ")
            .replace('\n', "\\n")
            .replace("\\n%{http_code}", "'\\n%{http_version} %{http_code}\\n'");
        for (option, tls, _) in ways {
            for (method, path) in [("GET", "/v1/health"), ("GET", "/v1/users/7"), ("DELETE", "/v1/users/7")] {
                let url = if tls { site.api_url(path) } else { site.plain_url(path) };
                script.push_str(&format!("curl {fixed} {option} -X {method} {url} | tr '\\n' ' '; echo\n"));
            }
        }
        words(&["sh", "-c", &script])
    };
    both(script, |site, finished| {
        // Body first, then version and status: turned round, it is as other clients print it.
        let turned = |line: &str| {
            let (body, status) = line.trim().rsplit_once(' ')?;
            let (body, version) = body.trim_end().rsplit_once(' ')?;
            Some(format!("{version} {status} {}\n", body.trim()))
        };
        let stdout: String = finished.stdout.lines().filter_map(turned).collect();
        threes(&Finished { stdout, ..finished.clone() }, &ways.map(|(_, _, version)| version))?;
        upstreams(site, 4, 6)?;
        let offered = |request: &callgate_harness::upstream::LoggedRequest| request.header("http2-settings").is_some();
        ensure!(!site.plain.requests().iter().any(offered), "the offer went on");
        Ok(())
    })
}

fn python_requests() -> Result<()> {
    let script = include_str!("../../clients/requests_client.py");
    let command =
        |site: &Site| words(&[PYTHON, "-c", script, &site.address.to_string(), &site.api_url(""), &site.plain_url("")]);
    both(command, |site, finished| {
        threes(finished, &["11", "11"])?;
        upstreams(site, 2, 2)
    })
}

fn python_httpx_by_http2() -> Result<()> {
    let script = include_str!("../../clients/httpx_client.py");
    let command =
        |site: &Site| words(&[PYTHON, "-c", script, &site.address.to_string(), &site.api_url(""), &site.plain_url("")]);
    both(command, |site, finished| {
        // In plain text httpx speaks HTTP/1.1.
        threes(finished, &["2", "1.1"])?;
        upstreams(site, 2, 2)?;
        ensure!(
            site.api.requests().iter().all(|request| request.path.starts_with("https://")),
            "not by HTTP/2 upstream"
        );
        Ok(())
    })
}

fn python_grpc() -> Result<()> {
    let script = include_str!("../../clients/grpc_client.py");
    let command = |site: &Site| {
        let authority = format!("{}:{}", site::API, site.api.address().port());
        words(&[PYTHON, "-c", script, &site.api.address().to_string(), &authority])
    };
    both(command, |site, finished| {
        let lines: Vec<&str> = finished.stdout.lines().collect();
        let [unary, stream, denied, masked, again] = lines[..] else { anyhow::bail!("{finished:?}") };
        ensure!(unary == "unary OK b'hello'" && stream == "stream OK [b'a', b'b', b'c']", "{}", finished.stdout);
        ensure!(denied.starts_with("denied PERMISSION_DENIED ") && denied.contains("no_permit"), "{denied}");
        ensure!(masked.starts_with("masked INTERNAL ") && masked.contains("unmaskable"), "{masked}");
        ensure!(again == "again OK b'hello'", "{again}");
        ensure!(site.api.request_count() == 3, "{:?}", site.api.requests());
        let records = site.records("begin", "the calls", |records| records.len() >= 5)?;
        let refused = records.iter().find(|record| record["function"]["path"] == "/test.v1.Echo/Other");
        let refused = refused.with_context(|| format!("{records:?}"))?;
        ensure!(refused["function"]["protocol"] == "grpc", "{refused}");
        ensure!(denied.contains(refused["call"].as_str().context("a call")?), "{denied} {refused}");
        Ok(())
    })
}

fn node_by_fetch_https_and_http2() -> Result<()> {
    let script = include_str!("../../clients/node_client.js");
    let command =
        |site: &Site| words(&["node", "-e", script, &site.address.to_string(), &site.api_url(""), &site.plain_url("")]);
    both(command, |site, finished| {
        threes(finished, &["fetch", "fetch-plain", "https", "http2"])?;
        upstreams(site, 6, 2)
    })
}

/// Java takes hosts from a file, and trust from the store that `callgate run` names; in the cgroup we make one.
fn java_by_http2_and_an_offer_of_h2c() -> Result<()> {
    let command = |site: &Site| {
        let script = "set -e; cd \"$1\"; shift; if [ -z \"$JAVA_TOOL_OPTIONS\" ]; then \
            keytool -importcert -noprompt -alias callgate -file run/ca.pem -keystore trust.p12 -storetype PKCS12 \
            -storepass changeit 2>/dev/null; \
            export JAVA_TOOL_OPTIONS='-Djavax.net.ssl.trustStore=trust.p12 -Djavax.net.ssl.trustStorePassword=changeit'; fi; \
            exec java -Djdk.net.hosts.file=hosts Client.java \"$@\"";
        let directory = site.path("").display().to_string();
        words(&["sh", "-c", script, "sh", &directory, &site.api_url(""), &site.plain_url("")])
    };
    let prepared = |site: &Site| {
        let hosts = format!("{0} {1}\n{0} {2}\n", site.address, site::API, site::PLAIN);
        let written = site
            .write("hosts", &hosts)
            .and_then(|()| site.write("Client.java", include_str!("../../clients/Client.java")));
        written.map(|()| command(site)).unwrap_or_default()
    };
    both(prepared, |site, finished| {
        let every_fourth = |posts: bool| {
            let lines = finished.stdout.lines().enumerate();
            lines.filter(move |(n, _)| (n % 4 == 3) == posts).map(|(_, line)| line)
        };
        let stdout = every_fourth(false).map(|line| format!("{line}\n")).collect();
        // In plain text Java offers h2c and goes on as it is answered.
        let prefixes = ["HTTP_2 HTTP_2", "HTTP_1_1 HTTP_1_1", "HTTP_2 HTTP_1_1", "HTTP_1_1 HTTP_1_1"];
        threes(&Finished { stdout, ..finished.clone() }, &prefixes)?;
        for (place, line) in every_fourth(true).enumerate() {
            let expected = if place < 2 { " 403 " } else { " 201 " };
            ensure!(line.contains(expected) && (place < 2 || line.contains("\"stored\":12")), "{line}");
        }
        upstreams(site, 4, 6)
    })
}

fn java_reads_the_whole_trust_store_of_a_run() -> Result<()> {
    let site = Site::without_agent()?;
    let script = "store=${JAVA_TOOL_OPTIONS#*trustStore=}; \
        keytool -list -storetype PKCS12 -storepass changeit -keystore ${store%% *}; grep BEGIN.CERTIFICATE $SSL_CERT_FILE";
    let finished = run(site.run(&[], &["sh", "-ec", script])?, WITHIN)?.ok()?;
    let count = |what: &str| finished.stdout.matches(what).count();
    ensure!(finished.stdout.contains("callgate, "), "{}", finished.stdout);
    ensure!(
        count("BEGIN CERTIFICATE") > 1 && count("trustedCertEntry") == count("BEGIN CERTIFICATE"),
        "{}",
        finished.stdout
    );
    Ok(())
}
