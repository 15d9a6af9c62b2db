//! `callgate doctor`: tries each kernel feature, names what is missing and what that means; ends what crashed runs left.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use callgate_daemon::Config;
use callgate_redirect::probe;
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

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
