//! A process in the cgroup under test: the test binary again, which takes one command a line and answers one line.
//!
//! What the commands are is the test's own business ([`serve`]); the answers are `N ok …` or `N errno E`.

use std::io::{self, BufRead as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{Place, Running};

/// First argument that makes the test binary a client.
const FLAG: &str = "--client";

/// Longest wait for an answer. The longest churn of a short run takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether this process was started by [`Client::start`].
#[must_use]
pub fn is_client() -> bool {
    std::env::args().nth(1).as_deref() == Some(FLAG)
}

/// The client's side: runs each command, until stdin ends.
pub fn serve(mut run: impl FnMut(&[&str]) -> io::Result<String>) -> ExitCode {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let [number, command @ ..] = words.as_slice() else { continue };
        let answer = match run(command) {
            Ok(text) => format!("{number} ok {text}"),
            Err(error) => format!("{number} errno {}", error.raw_os_error().unwrap_or(-1)),
        };
        println!("{answer}");
    }
    ExitCode::SUCCESS
}

/// The test's side; the process is ended on drop.
#[derive(Debug)]
pub struct Client {
    /// The process.
    pub running: Running,
    asked: u32,
}

impl Client {
    /// Starts this binary again in `place`, where it is born.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer.
    pub fn start(place: &Place) -> Result<Self> {
        let mut command = place.command(std::env::current_exe()?);
        command.arg(FLAG);
        let mut client = Self { running: Running::start(command)?, asked: 0 };
        // Whatever it says: it is there.
        client.ask("")?;
        Ok(client)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Gives a command and does not wait; its number.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn tell(&mut self, command: &str) -> Result<u32> {
        self.asked += 1;
        self.running.write(&format!("{} {command}\n", self.asked))?;
        Ok(self.asked)
    }

    /// Waits for the answer to the `number`th command.
    ///
    /// # Errors
    /// When none comes.
    pub fn answer(&self, number: u32) -> Result<String> {
        let prefix = format!("{number} ");
        let line = self.running.line(PATIENCE, |line| line.starts_with(&prefix))?;
        Ok(line.strip_prefix(&prefix).unwrap_or_default().to_owned())
    }

    /// `ok …` or `errno N`.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn ask(&mut self, command: &str) -> Result<String> {
        let number = self.tell(command)?;
        self.answer(number)
    }

    /// What follows `ok`.
    ///
    /// # Errors
    /// When the command failed.
    pub fn ok(&mut self, command: &str) -> Result<String> {
        let answer = self.ask(command)?;
        let rest = answer.strip_prefix("ok").with_context(|| format!("`{command}`: {answer}"))?;
        Ok(rest.trim_start().to_owned())
    }

    /// That a command fails with this errno.
    ///
    /// # Errors
    /// When it does not, or with another one.
    pub fn refused(&mut self, command: &str, errno: i32) -> Result<()> {
        self.refused_by(command, &[errno])
    }

    /// That a command fails with one of these.
    ///
    /// # Errors
    /// When it does not, or with another one.
    pub fn refused_by(&mut self, command: &str, errnos: &[i32]) -> Result<()> {
        let answer = self.ask(command)?;
        let expected = errnos.iter().any(|errno| answer == format!("errno {errno}"));
        ensure!(expected, "`{command}`: {answer}, expected one of errno {errnos:?}");
        Ok(())
    }
    /// That a command ends the process by SIGKILL.
    ///
    /// # Errors
    /// When it lives on, or ends otherwise.
    pub fn dies_of(&mut self, command: &str) -> Result<()> {
        self.tell(command)?;
        self.dies()
    }

    /// That the process ends by SIGKILL.
    ///
    /// # Errors
    /// When it lives on, or ends otherwise.
    pub fn dies(&mut self) -> Result<()> {
        let status = self.running.wait(PATIENCE)?;
        ensure!(status.signal() == Some(9), "ended with {status}, and said: {}", self.running.stdout());
        Ok(())
    }
}
