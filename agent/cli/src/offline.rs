//! Ending an enrolment where no agent runs: by its pins, which enforce, and its file, by which it would come back.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use callgate_daemon::{CONFIG_DIR, Config, What, place};
use callgate_enroll::Enrolment;

/// Instances of hosts. Those of runs end with their command, and are swept.
const AGENT: &str = "agent";

/// Ends the enrolment of the cgroup at `path`; `gone` tells why no agent was asked.
///
/// # Errors
/// Without root, while an agent lives after all, or when the cgroup is not enrolled.
pub fn unenroll(config: Option<&Path>, path: &Path, gone: &anyhow::Error) -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        bail!("{gone:#}");
    }
    let config = config_of_host(config)?;
    let directory = place::directory(&config, path)?;
    let (mut ended, mut enrolment_was_found) = (false, false);
    for enrolment in Enrolment::all(&config.state_dir) {
        let enrolment = enrolment?;
        if enrolment.instance != AGENT || enrolment.cgroup_path != directory {
            continue;
        }
        callgate_redirect::end_enrolment(&config.bpffs, AGENT, enrolment.cgroup)
            .with_context(|| format!("`{}` is still enrolled", path.display()))?;
        enrolment.remove(&config.state_dir)?;
        callgate_daemon::take_trust_back(&directory)
            .with_context(|| format!("mounts over CA files of `{}` stay", path.display()))?;
        enrolment_was_found |= enrolment.found;
        ended = true;
    }
    if !ended {
        bail!(
            "no agent answers, and no enrolment of `{}` is written down in `{}`: does `--config` name the agent's \
             configuration?",
            path.display(),
            config.state_dir.display()
        );
    }
    println!("`{}` is no longer enrolled (no agent runs; its pins and its file are removed)", path.display());
    let names = |what: &What| matches!(what, What::Path(path) if place::directory(&config, path).is_ok_and(|of| of == directory));
    if enrolment_was_found || config.enroll.iter().any(|entry| names(&entry.what)) {
        eprintln!("callgate: the configuration enrols it again at the agent's next start");
    }
    Ok(ExitCode::SUCCESS)
}

/// The agent's configuration: `file`, or that of the host, or the defaults where there is none.
///
/// # Errors
/// If it cannot be read.
pub fn config_of_host(file: Option<&Path>) -> Result<Config> {
    let of_host = Path::new(CONFIG_DIR).join("agent.toml");
    match file {
        Some(file) => Config::read(file),
        None if of_host.exists() => Config::read(&of_host),
        None => Ok(Config::default()),
    }
}
