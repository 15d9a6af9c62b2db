//! Those outside who start programs on request, set up before a run begins: it must hide them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use callgate_harness::{Running, eventually};

use super::helpers::Serving;
use super::scene::SOON;
use crate::order;
use crate::vector::{NOBODY, Way};
use crate::vectors::SERVICE;

/// Where sockets of daemons are; the process id follows.
const PREFIX: &str = "/run/callgate-bypass-";

/// All of them; ended and removed on drop.
pub struct Starters {
    folder: PathBuf,
    told: order::Starters,
    _docker: Serving,
    tmux: Option<Command>,
    _bus: Option<Running>,
}

impl Starters {
    /// Starts them as the user of `way`.
    pub fn new(hostile: &Path, way: Way) -> Result<Starters> {
        let folder = PathBuf::from(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
        let docker = Serving::start(hostile, way, &folder)?;
        let mut told = order::Starters { docker: docker.socket().to_owned(), ..order::Starters::default() };
        let mut starters = Starters { folder, told: told.clone(), _docker: docker, tmux: None, _bus: None };
        starters.tmux(way, &mut told)?;
        starters.bus(hostile, way, &mut told)?;
        starters.told = told;
        Ok(starters)
    }

    /// What the hostile program is told of them.
    pub fn order(&self) -> order::Starters {
        self.told.clone()
    }

    fn tmux(&mut self, way: Way, told: &mut order::Starters) -> Result<()> {
        let socket = self.folder.join("tmux.sock");
        let mut new = as_user("tmux", way);
        new.arg("-f").arg("/dev/null").arg("-S").arg(&socket).args(["new-session", "-d"]);
        new.stdin(Stdio::null()).env("TERM", "dumb").env("SHELL", "/bin/sh").current_dir("/");
        // Where there is no tmux, the vector says so itself.
        let Ok(started) = new.stdout(Stdio::null()).stderr(Stdio::null()).status() else { return Ok(()) };
        if started.success() {
            let mut end = as_user("tmux", way);
            end.arg("-S").arg(&socket).arg("kill-server").stdout(Stdio::null()).stderr(Stdio::null());
            self.tmux = Some(end);
        }
        told.tmux = socket;
        Ok(())
    }

    fn bus(&mut self, hostile: &Path, way: Way, told: &mut order::Starters) -> Result<()> {
        let (socket, services) = (self.folder.join("bus.sock"), self.folder.join("services"));
        fs::create_dir(&services)?;
        let program = hostile.display();
        let service = format!("[D-BUS Service]\nName={SERVICE}\nExec={program} dial-told\n");
        fs::write(services.join(format!("{SERVICE}.service")), service)?;
        let config = self.folder.join("bus.conf");
        let text = format!(
            "<busconfig><type>session</type><listen>unix:path={}</listen><servicedir>{}</servicedir>\
             <policy context=\"default\"><allow user=\"*\"/><allow send_destination=\"*\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/>\
             </policy></busconfig>",
            socket.display(),
            services.display(),
        );
        fs::write(&config, text)?;
        let mut daemon = as_user("dbus-daemon", way);
        daemon.arg("--config-file").arg(&config).arg("--nofork").arg("--nopidfile");
        told.bus.clone_from(&socket);
        let Ok(running) = Running::start(daemon) else { return Ok(()) };
        eventually("the message bus", SOON, || socket.exists().then_some(())).with_context(|| running.stderr())?;
        self._bus = Some(running);
        Ok(())
    }
}

impl Drop for Starters {
    fn drop(&mut self) {
        if let Some(mut end) = self.tmux.take() {
            let _gone = end.status();
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("bypass: {}: {error}", self.folder.display());
        }
    }
}

/// Removes what exams left that are gone.
///
/// # Errors
/// When it cannot be removed.
pub fn sweep() -> Result<()> {
    for entry in fs::read_dir("/run")?.flatten() {
        let path = entry.path();
        let pid = path.to_str().and_then(|path| path.strip_prefix(PREFIX));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

fn as_user(program: &str, way: Way) -> Command {
    if way.uid() != NOBODY {
        return Command::new(program);
    }
    let id = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", program]);
    command
}
