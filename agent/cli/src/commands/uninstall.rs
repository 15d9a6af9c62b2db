//! `callgate uninstall`: ends enforcement on this host, and removes what agents and runs keep outside of their state.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use callgate_daemon::CONFIG_DIR;
use callgate_enroll::Enrolment;
use callgate_redirect::{RedirectError, instances, remove_pins};
use clap::Args;

use super::install::execute;
use crate::offline::config_of_host;
use crate::units::{Found, UNITS, Unit};

/// `callgate uninstall`
#[derive(Debug, Args)]
#[command(
    after_help = "Removes kernel programs, maps and links of every agent and run that has ended, what is enrolled, and the\nruntime directory; first stops and removes the units of `callgate install`, but where --config names an agent.\nRecords, keys and configurations stay, unless --purge is given. Programs of others are not touched.\n\nExamples:\n  callgate uninstall\n  callgate uninstall --dry-run\n\nExit codes: 0 nothing is left, 1 an agent or a run is alive, or something cannot be removed, 2 usage or configuration"
)]
pub struct UninstallArgs {
    /// Configuration file of the agent (TOML), for where things are [default: that of the host]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Remove records, spools and keys too: calls that were not shipped are lost. Of what `callgate install` installed,
    /// configurations, policies and edited units too
    #[arg(long)]
    purge: bool,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Removes everything that can be, and says what cannot.
///
/// # Errors
/// If the configuration cannot be read.
pub fn run(args: &UninstallArgs) -> Result<ExitCode> {
    let config = config_of_host(args.config.as_deref())?;
    let mut work = Work { dry: args.dry_run, removed: 0, left: 0 };
    // Units run the agent of the host; what another configuration says is not about it.
    let units = if args.config.is_none() { installed()? } else { Vec::new() };
    work.stop(&units);
    for instance in instances(&config.bpffs).context("cannot read the pins")? {
        let what = format!("kernel programs, links and maps of `{instance}`");
        let remove = || match remove_pins(&config.bpffs, &instance) {
            Err(RedirectError::InUse(_)) => Err(anyhow::anyhow!("it is running: stop it first")),
            removed => Ok(removed?),
        };
        work.remove(&what, remove);
    }
    work.folders(&config.bpffs.join("callgate"));
    for enrolment in Enrolment::all(&config.state_dir) {
        match enrolment {
            Ok(enrolment) => {
                let what = format!("enrolment of `{}`", enrolment.cgroup_path.display());
                work.remove(&what, || Ok(enrolment.remove(&config.state_dir)?));
            }
            // Goes with the rest of the state.
            Err(error) if args.purge => drop(error),
            Err(error) => work.remains("an enrolment", &error.into()),
        }
    }
    work.units(&units, args.purge);
    if work.left == 0 {
        work.tree(&config.runtime_dir);
        if args.purge {
            work.tree(&config.state_dir);
        }
        if args.purge && !units.is_empty() {
            [COLLECTOR_STATE, CONFIG_DIR].into_iter().for_each(|folder| work.tree(Path::new(folder)));
            work.user();
        }
    }
    let kept = if config.state_dir.is_dir() && !args.purge {
        format!("; records and keys stay in `{}` (`--purge` removes them)", config.state_dir.display())
    } else {
        String::new()
    };
    match (work.left, work.dry) {
        (0, true) => println!("{} to be removed{kept}", work.removed),
        (0, false) => println!("nothing is left of Callgate in the kernel, {} removed{kept}", work.removed),
        (left, _) => eprintln!("callgate: {left} left, {} removed", work.removed),
    }
    Ok(if work.left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the collector's unit keeps its records, and its user.
const COLLECTOR_STATE: &str = "/var/lib/callgate-collector";
const COLLECTOR_USER: &str = "callgate-collector";

/// Units that are there, whoever wrote them.
fn installed() -> Result<Vec<(&'static Unit, Found)>> {
    let mut units = Vec::new();
    for unit in UNITS {
        match unit.found(Path::new("/"))? {
            Found::Nothing => {}
            found => units.push((unit, found)),
        }
    }
    Ok(units)
}

/// What is done, and how it went.
struct Work {
    dry: bool,
    removed: usize,
    left: usize,
}

impl Work {
    fn remove(&mut self, what: &str, remove: impl FnOnce() -> Result<()>) {
        if !self.dry
            && let Err(error) = remove()
        {
            return self.remains(what, &error);
        }
        println!("{} {what}", if self.dry { "would remove" } else { "removed" });
        self.removed += 1;
    }

    /// Stops the services, and has them not start again.
    fn stop(&mut self, units: &[(&Unit, Found)]) {
        for service in units.iter().filter_map(|(unit, _)| unit.service) {
            self.remove(&format!("service `{service}`"), || {
                execute(&["systemctl", "--quiet", "disable", "--now", service])
            });
        }
    }

    /// The units' files; an edited one only by a purge.
    fn units(&mut self, units: &[(&Unit, Found)], purge: bool) {
        for (unit, found) in units {
            let path = unit.below(Path::new("/"));
            if *found == Found::Edited && !purge {
                println!("kept `{}`: it was edited (`--purge` removes it)", path.display());
                continue;
            }
            self.remove(&format!("`{}`", path.display()), || Ok(std::fs::remove_file(&path)?));
        }
        if !units.is_empty() && !self.dry {
            let reload = execute(&["systemctl", "daemon-reload"]);
            let _ = reload.inspect_err(|error| self.remains("systemd's view of the units", error));
        }
    }

    /// The collector's user, where there is one.
    fn user(&mut self) {
        let is_user = |text: String| text.lines().any(|line| line.split(':').next() == Some(COLLECTOR_USER));
        if std::fs::read_to_string("/etc/passwd").is_ok_and(is_user) {
            self.remove(&format!("user `{COLLECTOR_USER}`"), || execute(&["userdel", COLLECTOR_USER]));
        }
    }

    fn remains(&mut self, what: &str, error: &anyhow::Error) {
        eprintln!("callgate: {what}: {error:#}");
        self.left += 1;
    }

    /// A folder with everything in it; one that is a mount point, as in a container, is emptied.
    fn tree(&mut self, path: &Path) {
        if path.exists() {
            self.remove(&format!("`{}`", path.display()), || match std::fs::remove_dir_all(path) {
                Err(error) if stays_mounted(&error) && is_empty(path) => Ok(()),
                done => Ok(done?),
            });
        }
    }

    /// A folder of folders, as far as they are empty.
    fn folders(&mut self, path: &Path) {
        if self.dry {
            return;
        }
        let below = std::fs::read_dir(path).into_iter().flatten().flatten();
        for entry in below.filter(|entry| entry.path().is_dir()) {
            self.folders(&entry.path());
        }
        match std::fs::remove_dir(path) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                self.remains(&format!("`{}`", path.display()), &error.into());
            }
            _ => {}
        }
    }
}

fn stays_mounted(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::ReadOnlyFilesystem)
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}
