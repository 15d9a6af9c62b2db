//! A sandbox around a script, in a cgroup of the test's own; no kernel programs, no agent.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use callgate::run::{Child, Invoker, RunCgroup, Sandbox};
use callgate_enroll::cgroup;

/// The user `nobody`: without rights, but with an entry in the user database.
pub const NOBODY: u32 = 65534;

/// One run to come. Its directory is writable for everybody and removed at the end.
pub struct Run {
    pub sandbox: Sandbox,
    pub cgroup: RunCgroup,
    pub dir: tempfile::TempDir,
    root: PathBuf,
}

impl Run {
    /// A run as `nobody`, named after its test.
    pub fn new(test: &str) -> Self {
        let root = cgroup::cgroup2_mount().unwrap().join(format!("callgate-test-{}", std::process::id())).join(test);
        let cgroup = RunCgroup::create(Some(&root), "run-test").unwrap();
        let dir = tempfile::Builder::new().prefix("callgate-test-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let runtime_dir = dir.path().join("runtime");
        let trust = runtime_dir.join("run-test");
        let state = dir.path().join("state");
        fs::create_dir_all(&trust).unwrap();
        fs::create_dir(&state).unwrap();
        fs::write(trust.join("ca.pem"), "the CA").unwrap();
        fs::write(runtime_dir.join("agent.sock"), "").unwrap();
        fs::write(state.join("secret"), "").unwrap();
        let invoker = Invoker {
            uid: NOBODY,
            gid: NOBODY,
            groups: vec![NOBODY],
            name: "nobody".into(),
            home: "/nonexistent".into(),
            switched: true,
        };
        let sandbox = Sandbox {
            invoker,
            cgroup: cgroup.path().to_owned(),
            allow_setuid: false,
            expose: Vec::new(),
            landlock: true,
            hide: vec![state],
            trust,
            runtime_dir,
        };
        Self { sandbox, cgroup, dir, root }
    }

    /// A run as the root that the test runs as.
    pub fn as_root(test: &str) -> Self {
        let mut run = Self::new(test);
        run.sandbox.invoker =
            Invoker { uid: 0, gid: 0, groups: vec![0], name: "root".into(), home: "/root".into(), switched: false };
        run
    }

    /// Runs a command; its exit code, or why it was not started.
    pub fn command(&self, command: &[&str]) -> Result<u8> {
        let command: Vec<OsString> = command.iter().map(Into::into).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let program = Path::new(env!("CARGO_BIN_EXE_callgate"));
        runtime.block_on(Child::run_by(program, &self.sandbox, &command, vec![("SET".into(), "for CMD".into())]))
    }

    /// Runs a script of `program` (`sh`, `python3`); its exit code, and its output without the last line break.
    pub fn script(&self, program: &str, script: &str) -> (u8, String) {
        let (file, out) = (self.dir.path().join("script"), self.dir.path().join("out"));
        fs::write(&file, script).unwrap();
        fs::write(&out, "").unwrap();
        fs::set_permissions(&out, fs::Permissions::from_mode(0o666)).unwrap();
        let line = format!("exec /usr/bin/{program} {} >{} 2>&1", file.display(), out.display());
        let code = self.command(&["sh", "-c", &line]).unwrap();
        (code, fs::read_to_string(&out).unwrap().trim_end().to_owned())
    }

    /// The output of a shell script that must succeed.
    pub fn sh(&self, script: &str) -> String {
        let (code, output) = self.script("sh", script);
        assert_eq!(code, 0, "{output}");
        output
    }

    /// The output of a Python script that must succeed.
    pub fn python(&self, script: &str) -> String {
        let (code, output) = self.script("python3", script);
        assert_eq!(code, 0, "{output}");
        output
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.cgroup.kill().unwrap();
        cgroup::remove(&self.root).unwrap();
        // Shared by the tests of this process: goes with the last.
        let _ = self.root.parent().map(fs::remove_dir);
    }
}
