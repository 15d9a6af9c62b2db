//! `callgate install --systemd`: units, users, folders and first configurations, so that systemd runs agent and collector.
//!
//! Writes nothing twice, replaces nothing that somebody edited, and never a configuration. Programs are not copied: the
//! units look for them where systemd does.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use callgate_daemon::{AGENT_CONFIG, CONFIG_DIR};
use clap::Args;

use crate::units::{COLLECTOR_CONFIG, Found, PROGRAM_FOLDERS, UNITS, Unit, write};

/// `callgate install`
#[derive(Debug, Args)]
#[command(
    after_help = "Units go to /etc/systemd/system, users and folders to /etc/sysusers.d and /etc/tmpfiles.d, and to\n/etc/callgate the configurations that are not there yet. `callgate uninstall` removes them.\n\nExamples:\n  callgate install --systemd --collector --now\n  callgate install --systemd --dry-run\n  callgate install --systemd --root /mnt/image\n\nExit codes: 0 installed, 1 refused or failed, 2 usage"
)]
pub struct InstallArgs {
    /// For a host whose services systemd runs; there is no other way yet
    #[arg(long, required = true)]
    systemd: bool,
    /// A collector on this host too, and the agent ships to it
    #[arg(long)]
    collector: bool,
    /// Write below this folder, for an image, and run nothing
    #[arg(long, value_name = "DIR", conflicts_with = "now")]
    root: Option<PathBuf>,
    /// Enable and start the services
    #[arg(long)]
    now: bool,
    /// Replace units that were edited
    #[arg(long)]
    force: bool,
    /// Print what would be written and run, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// The address of a collector of this host, as deploy/systemd/collector.toml has it.
const COLLECTOR: &str = "unix:/run/callgate-collector/collector.sock";

/// Writes what is missing and lets systemd take it.
///
/// # Errors
/// If a unit was edited, or something cannot be written or run.
pub fn run(args: &InstallArgs) -> Result<ExitCode> {
    let root = args.root.clone().unwrap_or_else(|| "/".into());
    let units: Vec<&Unit> = UNITS.iter().filter(|unit| args.collector || !unit.of_collector).collect();
    let mut files = Vec::new();
    for unit in &units {
        match unit.found(&root)? {
            Found::Current => {}
            Found::Edited if !args.force => bail!(
                "`{}` was edited: `--force` replaces it, and `systemctl edit` keeps changes apart from it",
                unit.below(&root).display()
            ),
            Found::Nothing | Found::Other | Found::Edited => files.push((unit.below(&root), unit.stamped())),
        }
    }
    files.extend(configs(&root, args.collector));
    let programs: Vec<&str> = units.iter().filter_map(|unit| unit.service).collect();
    let commands = commands(args, &programs);
    if args.dry_run {
        for (path, text) in &files {
            println!("would write `{}`:\n{text}", path.display());
        }
        commands.iter().for_each(|words| println!("would run `{}`", words.join(" ")));
        return Ok(ExitCode::SUCCESS);
    }
    if args.root.is_none() {
        ensure!(rustix::process::geteuid().is_root(), "this writes to /etc and speaks to systemd: run it as root");
        ensure!(
            Path::new("/run/systemd/system").is_dir(),
            "systemd does not run this host: `--root DIR` writes the files for another one"
        );
        programs.iter().try_for_each(|service| is_there(service.trim_end_matches(".service")))?;
    }
    for (path, text) in &files {
        write(path, text)?;
        println!("wrote `{}`", path.display());
    }
    commands.iter().try_for_each(|words| execute(words))?;
    if files.is_empty() {
        println!("everything was there already");
    }
    match (args.root.is_some(), args.now) {
        (true, _) => {}
        (false, true) => println!("started; what ran already takes changes with `systemctl restart`"),
        (false, false) => println!("`systemctl enable --now {}` starts it", programs.join(" ")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Configurations that are not there yet.
fn configs(root: &Path, collector: bool) -> Vec<(PathBuf, String)> {
    let folder = root.join(CONFIG_DIR.trim_start_matches('/'));
    let mut agent = AGENT_CONFIG.to_owned();
    let mut all = Vec::new();
    if collector {
        let key = agent.lines().find(|line| line.starts_with("# collector = ")).unwrap_or_default().to_owned();
        agent = agent.replacen(&key, &format!("collector = \"{COLLECTOR}\""), 1);
        all.push((folder.join("collector.toml"), COLLECTOR_CONFIG.to_owned()));
    }
    all.push((folder.join("agent.toml"), agent));
    all.retain(|(path, _)| !path.exists());
    all
}

/// What is run after the files are there. All of it may be run again.
fn commands(args: &InstallArgs, services: &[&'static str]) -> Vec<Vec<&'static str>> {
    if args.root.is_some() {
        return Vec::new();
    }
    let mut commands = Vec::new();
    if args.collector {
        commands.push(vec!["systemd-sysusers", "/etc/sysusers.d/callgate.conf"]);
    }
    commands.push(vec!["systemd-tmpfiles", "--create", "/etc/tmpfiles.d/callgate.conf"]);
    commands.push(vec!["systemctl", "daemon-reload"]);
    if args.now {
        commands.push(["systemctl", "enable", "--now"].into_iter().chain(services.iter().copied()).collect());
    }
    commands
}

/// Refuses a unit that systemd could not start.
fn is_there(program: &str) -> Result<()> {
    let found = PROGRAM_FOLDERS.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file());
    let found =
        found.with_context(|| format!("`{program}` is in none of {}: put it there", PROGRAM_FOLDERS.join(", ")))?;
    println!("`{program}` is run from `{}`", found.display());
    Ok(())
}

pub(super) fn execute(words: &[&str]) -> Result<()> {
    let (program, arguments) = words.split_first().context("no command")?;
    let status = Command::new(program).args(arguments).status().with_context(|| format!("cannot run `{program}`"))?;
    ensure!(status.success(), "`{}` failed ({status})", words.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use callgate_daemon::Config;

    use super::*;

    fn args(root: &Path) -> InstallArgs {
        let root = Some(root.into());
        InstallArgs { systemd: true, collector: true, root, now: false, force: false, dry_run: false }
    }

    #[test]
    fn twice_is_once_and_edits_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let args = args(root.path());
        run(&InstallArgs { dry_run: true, ..super::tests::args(root.path()) }).unwrap();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "a dry run writes nothing");
        run(&args).unwrap();
        let config = root.path().join("etc/callgate/agent.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        assert_eq!(Config::parse(&text).unwrap().collector.as_deref(), Some(COLLECTOR));
        assert!(COLLECTOR_CONFIG.contains(COLLECTOR));
        std::fs::write(&config, "# mine\n").unwrap();
        run(&args).unwrap();
        assert_eq!(std::fs::read_to_string(&config).unwrap(), "# mine\n", "a configuration is never replaced");
        let unit = root.path().join("etc/systemd/system/callgate-agent.service");
        std::fs::write(&unit, "[Service]\nExecStart=mine\n").unwrap();
        let refused = format!("{:#}", run(&args).unwrap_err());
        assert!(refused.contains("was edited") && refused.contains("--force"), "{refused}");
        run(&InstallArgs { force: true, ..super::tests::args(root.path()) }).unwrap();
        assert!(std::fs::read_to_string(&unit).unwrap().contains("ExecStart=callgate-agent"));
    }

    #[test]
    fn without_a_collector_nothing_of_it_is_written() {
        let root = tempfile::tempdir().unwrap();
        run(&InstallArgs { collector: false, ..args(root.path()) }).unwrap();
        assert!(!root.path().join("etc/sysusers.d").exists());
        assert!(!root.path().join("etc/callgate/collector.toml").exists());
        let text = std::fs::read_to_string(root.path().join("etc/callgate/agent.toml")).unwrap();
        assert_eq!(Config::parse(&text).unwrap().collector, None);
    }
}
