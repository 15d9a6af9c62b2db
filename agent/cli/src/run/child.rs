//! Starts CMD by way of the stage, stands beside it, and tells how it ended.
//!
//! CMD is in the process group of `run` and shares its terminal. What the terminal sends (Ctrl-C, Ctrl-Z) reaches CMD
//! by itself; what is sent to `run` alone is passed on. When CMD stops, `run` stops with it, so that the shell gets
//! the terminal back, and continues it when it is continued.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::channel::{Channel, code};
use super::sandbox::Order;
use super::{Sandbox, stage};

/// Exit codes of commands that a signal ended start here. Source: POSIX shells.
const SIGNALLED: i32 = 128;

/// Signals that the terminal sends to the whole process group.
const FROM_TERMINAL: &[Signal] = &[Signal::INT, Signal::QUIT, Signal::TSTP];

/// Signals that `run` alone gets.
const FROM_OTHERS: &[Signal] = &[Signal::TERM, Signal::HUP, Signal::USR1, Signal::USR2, Signal::CONT];

/// CMD, running.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    handle: OwnedFd,
    channel: Channel,
}

impl Child {
    /// Runs `command` in `sandbox`, with `set` added to the environment, until it ends. Returns its exit code:
    /// its own, 128+N when signal N ended it, 126 or 127 when it could not be executed (said on stderr).
    ///
    /// Processes that it leaves behind are the caller's to kill, by the cgroup.
    ///
    /// # Errors
    /// When it could not be locked in; then it was not started.
    ///
    /// # Cancel safety
    /// Dropping the future leaves CMD running: kill its cgroup.
    pub async fn run(sandbox: &Sandbox, command: &[OsString], set: Vec<(OsString, OsString)>) -> Result<u8> {
        // The very program that runs now, also when its file was replaced meanwhile.
        Self::run_by(Path::new("/proc/self/exe"), sandbox, command, set).await
    }

    /// As [`Child::run`], with the program that knows the hidden command: tests are not that program themselves.
    ///
    /// # Errors
    /// As [`Child::run`].
    pub async fn run_by(
        program: &Path,
        sandbox: &Sandbox,
        command: &[OsString],
        set: Vec<(OsString, OsString)>,
    ) -> Result<u8> {
        // Before CMD exists, so that none is lost.
        let mut signals = Signals::catch()?;
        let child = Self::start(program, sandbox, command, set)?;
        let mut changes = child.watch();
        let status = loop {
            tokio::select! {
                biased;
                change = changes.recv() => match change {
                    Some(Ok(status)) if status.stopped() => stop_like(status)?,
                    Some(Ok(status)) => break status,
                    Some(Err(error)) => return Err(error).context("cannot wait for CMD"),
                    None => bail!("cannot wait for CMD"),
                },
                Some(signal) = signals.received.recv() => child.pass(signal),
            }
        };
        child.outcome(status)
    }

    fn start(program: &Path, sandbox: &Sandbox, command: &[OsString], set: Vec<(OsString, OsString)>) -> Result<Self> {
        let (mut all, unset) = sandbox.invoker.environment();
        all.extend(set);
        let order = Order { sandbox: sandbox.clone(), command: command.to_vec(), set: all, unset };
        let channel = Channel::new(&order)?;
        let child = Command::new(program)
            .arg(stage::SUBCOMMAND)
            .args(channel.arguments())
            .spawn()
            .context("cannot start the stage of CMD")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process id of 0")?;
        // Not waited for yet, so the id is still this child's.
        let handle = pidfd_open(pid, PidfdFlags::empty()).context("cannot open CMD's process")?;
        Ok(Self { pid, handle, channel })
    }

    /// Every change of the child's state, until it ended. Waiting needs a thread: no descriptor tells of stops.
    fn watch(&self) -> mpsc::Receiver<io::Result<WaitStatus>> {
        let (sender, receiver) = mpsc::channel(4);
        let pid = self.pid;
        std::thread::spawn(move || {
            loop {
                let change = match rustix::process::waitpid(Some(pid), WaitOptions::UNTRACED) {
                    Ok(Some((_, status))) => Ok(status),
                    Ok(None) | Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => Err(error.into()),
                };
                let last = !matches!(&change, Ok(status) if status.stopped());
                if sender.blocking_send(change).is_err() || last {
                    return;
                }
            }
        });
        receiver
    }

    /// Passes a signal on, unless the terminal has sent it to CMD as well.
    fn pass(&self, signal: Signal) {
        if FROM_TERMINAL.contains(&signal) && in_foreground() {
            return;
        }
        // It may have ended just now.
        let _ = pidfd_send_signal(&self.handle, signal);
    }

    fn outcome(&self, status: WaitStatus) -> Result<u8> {
        if let Some(failure) = self.channel.failure() {
            if failure.code == code::STAGE_FAILED {
                bail!("{}", failure.message);
            }
            eprintln!("callgate: {}", failure.message);
            return Ok(failure.code);
        }
        let code = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => code,
            (None, Some(signal)) => SIGNALLED + signal,
            (None, None) => code::STAGE_FAILED.into(),
        };
        Ok(u8::try_from(code & 0xff).unwrap_or(code::STAGE_FAILED))
    }
}

/// Stops this process as CMD was stopped. CMD is continued when SIGCONT arrives here, like any other signal.
fn stop_like(status: WaitStatus) -> Result<()> {
    // Without a terminal nobody would continue us, and CMD's data path would stand still with it.
    if terminal().is_some() && status.stopping_signal().is_some() {
        rustix::process::kill_process(rustix::process::getpid(), Signal::STOP).context("cannot stop with CMD")?;
    }
    Ok(())
}

/// Whether this process group is the one that the terminal's keys send signals to.
fn in_foreground() -> bool {
    let foreground = terminal().and_then(|tty| rustix::termios::tcgetpgrp(tty).ok());
    foreground == Some(rustix::process::getpgrp())
}

fn terminal() -> Option<File> {
    File::open("/dev/tty").ok()
}

/// The signals caught while CMD runs. Dropping it stops listening.
struct Signals {
    received: mpsc::Receiver<Signal>,
    tasks: Vec<AbortHandle>,
}

impl Signals {
    /// Catches what is not ignored already: `nohup` and background jobs of scripts rely on that, and CMD inherits it.
    fn catch() -> Result<Self> {
        let ignored = ignored_signals();
        let (sender, received) = mpsc::channel(16);
        let mut tasks = Vec::new();
        for kind in FROM_TERMINAL.iter().chain(FROM_OTHERS).copied() {
            if ignored & (1 << (kind.as_raw() - 1)) != 0 {
                continue;
            }
            let mut stream = signal(SignalKind::from_raw(kind.as_raw())).context("cannot catch signals")?;
            let sender = sender.clone();
            let task =
                tokio::spawn(async move { while stream.recv().await.is_some() && sender.send(kind).await.is_ok() {} });
            tasks.push(task.abort_handle());
        }
        Ok(Self { received, tasks })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Whether this process ignores a signal.
pub(super) fn is_ignored(kind: SignalKind) -> bool {
    ignored_signals() & (1 << (kind.as_raw_value() - 1)) != 0
}

/// The mask of ignored signals of this process, bit N-1 for signal N.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).unwrap_or(0)
}
