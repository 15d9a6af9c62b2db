//! `callgate doctor`: tries each kernel feature, names what is missing and what that means; ends what crashed runs left.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use callgate_daemon::{Config, control};
use callgate_proto::v1::WorkloadsRequest;
use callgate_redirect::probe;
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

use super::control::connect;
use super::{FAILED, OK};
use crate::sweep;

/// `callgate doctor`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sudo callgate doctor\n\nExit codes: 0 everything needed is there, 1 something needed is missing, 2 usage"
)]
pub struct DoctorArgs {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Configuration file of the agent (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Tries everything.
///
/// # Errors
/// If the configuration cannot be read, or what a crashed run left cannot be removed.
pub async fn run(args: DoctorArgs) -> Result<ExitCode> {
    let config = match &args.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    if !rustix::process::geteuid().is_root() {
        anyhow::bail!("`doctor` tries kernel features by using them, which needs root: `sudo callgate doctor`");
    }
    for stale in sweep::sweep(&config).await? {
        eprintln!("callgate: removed what the crashed `{stale}` left");
    }
    let mut features = probe::probe_all(&config.bpffs);
    features.extend(callgate_warden::probe::probe_all().into_iter().map(of_warden));
    features.push(landlock());
    features.push(trust_mounts(&config));
    features.push(trust_in_force(&config).await);
    let missing = features.iter().any(|feature| feature.required && !feature.ok);
    if args.json {
        for f in &features {
            let object = json!({ "name": f.name, "ok": f.ok, "required": f.required, "detail": f.detail, "without": f.degrades });
            println!("{object}");
        }
    } else {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["FEATURE", "", "FOUND", "WITHOUT IT"]);
        for f in &features {
            let mark = match (f.ok, f.required) {
                (true, _) => "ok",
                (false, true) => "MISSING",
                (false, false) => "absent",
            };
            table.add_row([f.name, mark, &f.detail, if f.ok { "" } else { f.degrades }]);
        }
        println!("{table}");
    }
    Ok(ExitCode::from(if missing { FAILED } else { OK }))
}

/// The warden's parts: the agent goes on without them, and says so.
fn of_warden(feature: callgate_warden::Feature) -> probe::Feature {
    let callgate_warden::Feature { name, ok, detail, degrades } = feature;
    probe::Feature { name, ok, detail, degrades, required: false }
}

/// Landlock, whose scopes `run` needs.
fn landlock() -> probe::Feature {
    let scopes = crate::run::landlock_scopes();
    probe::Feature {
        name: "landlock scopes",
        ok: scopes.is_ok(),
        required: false,
        detail: scopes.unwrap_or_else(|error| error),
        degrades: "`run` needs --without-landlock: CMD may signal and trace processes of the same user",
    }
}

/// Mounts over the CA files of containers.
fn trust_mounts(config: &Config) -> probe::Feature {
    let scratch = if config.runtime_dir.is_dir() { config.runtime_dir.clone() } else { std::env::temp_dir() };
    let tried = callgate_trust::probe(&scratch);
    probe::Feature {
        name: "trust by mounts",
        ok: tried.is_ok(),
        required: false,
        detail: tried.unwrap_or_else(|error| format!("{:#}", anyhow::Error::from(error))),
        degrades: "containers trust the gate only by the variables that admission gives them, or that you do",
    }
}

/// By which way the workloads of the agent that runs trust it: as far as this node can tell.
async fn trust_in_force(config: &Config) -> probe::Feature {
    let asked = async {
        let mut agent = connect(&control::socket_path(&config.runtime_dir)).await?;
        anyhow::Ok(agent.workloads(WorkloadsRequest {}).await?.into_inner().workloads)
    };
    let (ok, detail) = match asked.await {
        Err(error) => (false, format!("not known: {error:#}")),
        Ok(workloads) => {
            let by = |way: &str| workloads.iter().filter(|one| one.trust.contains(way)).count();
            let counts =
                [("policy", by("policy")), ("webhook", by("webhook")), ("mount", by("mount (")), ("none", by("none"))];
            let counted: Vec<String> =
                counts.iter().filter(|(_, n)| *n > 0).map(|(way, n)| format!("{way}: {n}")).collect();
            let failed = by("failed");
            let detail = if counted.is_empty() { "no workload is enrolled".into() } else { counted.join(", ") };
            (failed == 0, if failed > 0 { format!("{detail}; failed: {failed}") } else { detail })
        }
    };
    probe::Feature {
        name: "trust in force",
        ok,
        required: false,
        detail,
        degrades: "clients that do not trust the gate refuse its certificates: see `callgate workloads`",
    }
}
