//! A child process: its output is collected, its signals go by pidfd, its end is certain.
//!
//! Never signals by name or by a number that could have been given to another process.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A running program; killed and reaped on drop.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    pidfd: OwnedFd,
    stdin: Option<ChildStdin>,
    stdout: Output,
    stderr: Output,
    status: Option<ExitStatus>,
}

/// What a program did that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote to stdout.
    pub stdout: String,
    /// Everything it wrote to stderr.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Finished {
    /// The exit code as a shell shows it: 128 + N after signal N.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Itself, if the program succeeded.
    ///
    /// # Errors
    /// With both outputs, if it did not.
    pub fn ok(self) -> Result<Finished> {
        if self.status.success() {
            return Ok(self);
        }
        bail!("{}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout.trim_end(), self.stderr.trim_end())
    }
}

/// Runs `command` to its end with nothing on stdin.
///
/// # Errors
/// When it cannot be started, or has not ended `within` that time (then it is killed). A failing exit is no error.
pub fn run(command: Command, within: Duration) -> Result<Finished> {
    let start = Instant::now();
    let mut running = Running::start(command)?;
    running.close_stdin();
    let status = running.wait(within)?;
    Ok(Finished { status, stdout: running.stdout(), stderr: running.stderr(), took: start.elapsed() })
}

impl Running {
    /// Starts `command` with its three standard streams in our hands.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Result<Running> {
        let name = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {name}"))?;
        // Not yet reaped, so the number is still this child's.
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("open a pidfd")?;
        let stdin = child.stdin.take();
        let stdout = Output::of(child.stdout.take().context("stdout is piped")?);
        let stderr = Output::of(child.stderr.take().context("stderr is piped")?);
        Ok(Running { name, child, pidfd, stdin, stdout, stderr, status: None })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` to it (`Signal::KILL`, `Signal::STOP`, …).
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        pidfd_send_signal(&self.pidfd, signal).with_context(|| format!("signal {}", self.name))
    }

    /// Ends it at once and reaps it.
    ///
    /// # Errors
    /// When it cannot be reaped.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        let _ = self.signal(Signal::KILL);
        self.wait(Duration::from_secs(10))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `within`; it goes on running. The message has what it wrote to stderr.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error).context("poll a pidfd"),
                Ok(0) => bail!("{} still runs after {within:?}; stderr:\n{}", self.name, self.stderr.text()),
                Ok(_) => break,
            }
        }
        let status = self.child.wait().context("reap")?;
        self.status = Some(status);
        Ok(status)
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.wait(Duration::ZERO).is_err()
    }

    /// Waits for a line on stdout for which `wanted` holds, also among those already written.
    ///
    /// # Errors
    /// When none came `within` that time, or stdout ended without; the message has both outputs.
    pub fn line(&self, within: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        self.stdout.line(within, wanted).with_context(|| self.said())
    }

    /// As [`Running::line`], on stderr.
    ///
    /// # Errors
    /// As [`Running::line`].
    pub fn error_line(&self, within: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        self.stderr.line(within, wanted).with_context(|| self.said())
    }

    /// What it has written to stdout so far; all of it once [`Running::wait`] has seen its end.
    pub fn stdout(&self) -> String {
        self.written(&self.stdout)
    }

    /// As [`Running::stdout`], of stderr.
    pub fn stderr(&self) -> String {
        self.written(&self.stderr)
    }

    /// Writes to its stdin.
    ///
    /// # Errors
    /// When stdin is closed.
    pub fn write(&mut self, text: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("stdin was closed")?;
        stdin.write_all(text.as_bytes())?;
        Ok(stdin.flush()?)
    }

    /// Ends its stdin.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The end of a process may be known before the thread that reads its output had its turn.
    fn written(&self, output: &Output) -> String {
        if self.status.is_some() { output.whole() } else { output.text() }
    }

    fn said(&self) -> String {
        format!("{}\n--- stdout\n{}--- stderr\n{}", self.name, self.stdout.text(), self.stderr.text())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.kill();
        }
    }
}

/// The collected lines of one stream.
#[derive(Debug)]
struct Output {
    shared: Arc<(Mutex<Collected>, Condvar)>,
}

#[derive(Debug, Default)]
struct Collected {
    text: String,
    ended: bool,
}

impl Output {
    fn of(stream: impl Read + Send + 'static) -> Output {
        let shared = Arc::new((Mutex::new(Collected::default()), Condvar::new()));
        let filled = shared.clone();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            loop {
                line.clear();
                let read = stream.read_until(b'\n', &mut line).unwrap_or(0);
                let mut collected = filled.0.lock().unwrap_or_else(PoisonError::into_inner);
                collected.text.push_str(&String::from_utf8_lossy(&line));
                collected.ended = read == 0;
                filled.1.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        Output { shared }
    }

    fn text(&self) -> String {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).text.clone()
    }

    /// All of it. A grandchild that keeps the stream open must not hold the test: waits one second at most.
    fn whole(&self) -> String {
        let (collected, changed) = &*self.shared;
        let guard = collected.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = changed
            .wait_timeout_while(guard, Duration::from_secs(1), |collected| !collected.ended)
            .unwrap_or_else(PoisonError::into_inner);
        guard.text.clone()
    }

    fn line(&self, within: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let (collected, changed) = &*self.shared;
        let find = |text: &str| {
            text.split_inclusive('\n').find(|line| wanted(line.trim_end())).map(|line| line.trim_end().to_owned())
        };
        let guard = collected.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = changed
            .wait_timeout_while(guard, within, |collected| !collected.ended && find(&collected.text).is_none())
            .unwrap_or_else(PoisonError::into_inner);
        find(&guard.text).with_context(|| format!("the expected line did not come within {within:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn collects_both_outputs_and_the_exit_code() {
        let finished = run(sh("echo out; echo err >&2; exit 7"), Duration::from_secs(10)).unwrap();
        assert_eq!((finished.code(), finished.stdout.as_str(), finished.stderr.as_str()), (7, "out\n", "err\n"));
        assert!(finished.ok().unwrap_err().to_string().contains("err"));
    }

    #[test]
    fn output_is_whole_after_the_end() {
        // The late line stands for a reader that had no turn yet.
        let mut running = Running::start(sh("(sleep 0.2; echo late) & exit 0")).unwrap();
        assert!(running.wait(Duration::from_secs(10)).unwrap().success());
        assert_eq!(running.stdout(), "late\n");
    }

    #[test]
    fn waits_for_a_line_and_stops_by_pidfd() {
        let mut running = Running::start(sh("echo ready; read x; echo got $x; exec cat")).unwrap();
        running.line(Duration::from_secs(10), |line| line == "ready").unwrap();
        running.write("this\n").unwrap();
        running.line(Duration::from_secs(10), |line| line == "got this").unwrap();
        assert!(running.is_running());
        assert_eq!(running.kill().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_program_that_does_not_end_is_an_error() {
        assert!(run(sh("exec sleep 60"), Duration::from_millis(50)).is_err());
    }
}
