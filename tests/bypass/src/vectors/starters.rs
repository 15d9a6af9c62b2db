//! Those outside who start programs on request: what `callgate run` must keep out of reach.
//!
//! The exam has a tmux server, a D-Bus with a service to activate and a stand-in for Docker's socket running when the
//! run starts; sudo, at, cron and systemd are tried where the machine has them.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::handed::done;
use crate::hostile::PATIENCE;
use crate::vector::Way;
use crate::{Order, Said, Vector};

/// Under `run` alone: elsewhere these are for the operator to keep out of the workload's view.
const RUN: &[Way] = &[Way::Run, Way::RunRoot];

pub const ROWS: &[Vector] = &[
    row("docker_socket", "asks a daemon with a socket in /run to start a program (as docker.sock does)", docker),
    row("late_socket", "the same, of a socket outside of /run", late),
    row("tmux_server", "types into a tmux server that ran before", tmux),
    row("dbus_activation", "has D-Bus start a service", dbus),
    row("systemd_run", "systemd-run: has the service manager start a program", systemd),
    row("systemd_run_user", "systemd-run --user", systemd).with(1),
    row("sudo", "sudo: becomes root", sudo),
    row("su", "su: becomes another user", su),
    row("at", "at: has a daemon start a program later", at),
    row("cron", "crontab: has a daemon start a program later", cron),
];

const fn row(name: &'static str, what: &'static str, attempt: crate::vector::Attempt) -> Vector {
    Vector::new(name, what, attempt).delegated().v4().by(RUN)
}

/// What the bus is asked to start.
pub const SERVICE: &str = "dev.callgate.Bypass";
/// The environment variable that tells it what to dial.
pub const DIAL: &str = "CALLGATE_DIAL";

fn wish(order: &Order) -> io::Result<String> {
    let program = std::env::current_exe()?;
    Ok(format!("{} dial {} {}", program.display(), order.canary(), order.nonce))
}

fn run(mut command: Command) -> io::Result<Said> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Said::Absent(format!("no {name}"))),
        spawned => spawned?,
    };
    let started = Instant::now();
    while child.try_wait()?.is_none() && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ended = child.kill();
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(Said::Sent);
    }
    // Without its words, which name files that are called otherwise each time.
    Err(io::Error::other(format!("{name} failed")))
}

fn docker(order: &Order, _: i64) -> io::Result<Said> {
    ask(order, UnixStream::connect(&order.starters.docker)?)
}

fn late(order: &Order, _: i64) -> io::Result<Said> {
    let helper = order.helper.as_ref().ok_or_else(|| io::Error::other("no helper"))?;
    ask(order, UnixStream::connect(&helper.path)?)
}

fn ask(order: &Order, mut stream: UnixStream) -> io::Result<Said> {
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "start {} {}", order.canary(), order.nonce)?;
    done(&mut stream)
}

fn tmux(order: &Order, _: i64) -> io::Result<Said> {
    let mut command = Command::new("tmux");
    command.arg("-S").arg(&order.starters.tmux).args(["run-shell", &wish(order)?]);
    run(command)
}

/// A started service is told by its environment what to do: it is given nothing else.
fn dbus(order: &Order, _: i64) -> io::Result<Said> {
    let send = |member: &str, arguments: &[&str]| {
        let mut command = Command::new("dbus-send");
        command.arg(format!("--bus=unix:path={}", order.starters.bus.display()));
        command.args(["--print-reply", "--reply-timeout=1500", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus"]);
        command.arg(format!("org.freedesktop.DBus.{member}")).args(arguments);
        run(command)
    };
    let told = format!("dict:string:string:{DIAL},{} {}", order.canary(), order.nonce);
    match send("UpdateActivationEnvironment", &[&told])? {
        Said::Sent => {}
        other => return Ok(other),
    }
    send("StartServiceByName", &[&format!("string:{SERVICE}"), "uint32:0"])
}

fn systemd(order: &Order, user: i64) -> io::Result<Said> {
    let mut command = Command::new("systemd-run");
    command.args((user != 0).then_some("--user")).args(["--quiet", "--wait", "--collect", "/bin/sh", "-c"]);
    command.arg(wish(order)?);
    run(command)
}

fn sudo(order: &Order, _: i64) -> io::Result<Said> {
    let mut command = Command::new("sudo");
    command.args(["-n", "/bin/sh", "-c"]).arg(wish(order)?);
    run(command)
}

fn su(order: &Order, _: i64) -> io::Result<Said> {
    let mut command = Command::new("su");
    command.args(["-s", "/bin/sh", "-c"]).arg(wish(order)?).arg("nobody");
    run(command)
}

fn at(order: &Order, _: i64) -> io::Result<Said> {
    let mut script = tempfile::NamedTempFile::new()?;
    writeln!(script, "{}", wish(order)?)?;
    let mut command = Command::new("at");
    command.arg("-f").arg(script.path()).arg("now");
    run(command)
}

/// Cron looks once a minute; that it takes the job is enough. One that is somebody's is left alone.
fn cron(order: &Order, _: i64) -> io::Result<Said> {
    let list = Command::new("crontab").arg("-l").stdin(Stdio::null()).output();
    match list {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Said::Absent("no crontab".into())),
        Ok(output) if !output.stdout.is_empty() => return Ok(Said::Absent("the crontab is in use".into())),
        Ok(_) => {}
        Err(error) => return Err(error),
    }
    let mut table = tempfile::NamedTempFile::new()?;
    writeln!(table, "* * * * * {}", wish(order)?)?;
    let mut command = Command::new("crontab");
    command.arg(table.path());
    let taken = run(command)?;
    let _removed = Command::new("crontab").arg("-r").output();
    Ok(if taken == Said::Sent { Said::Breached("cron took the job".into()) } else { taken })
}
