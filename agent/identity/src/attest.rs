//! Which process opened a connection, and what it executes, from `/proc` and the kernel's own record.
//!
//! Never from what the workload sends: command name, environment and headers are no identity.
//! What cannot be told for certain is left out ([`Process::executable`] is none), so a rule that names an executable
//! does not match then.
//!
//! The executable is the one that the kernel noted at `connect()`: a process that executes another program before this
//! look at it has none, and neither has one of which the kernel noted nothing. The programs that started it are told
//! from the kernel's record too: see [`lineage`].

mod digest;
mod lineage;
mod placement;
mod stat;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use callgate_model::{Executable, Executed, Origin, Process};
use rustix::fs::{Mode, OFlags, openat};

use digest::{Digests, HASHED_MAX};
use lineage::Descent;
pub use lineage::Executions;

/// Tells which process is behind a connection.
///
/// Bounded: the digests of the 4,096 executables used last are kept, and as many executions.
pub struct Attestor {
    proc_root: PathBuf,
    cgroups: Option<PathBuf>,
    digests: Digests,
    /// None: no lineage is known of anybody.
    descent: Option<Descent>,
}

impl Attestor {
    /// Reads `/proc`.
    #[must_use]
    pub fn new() -> Self {
        Self::with_proc("/proc")
    }

    /// Reads a proc file system mounted elsewhere: the host's, seen from a container.
    #[must_use]
    pub fn with_proc(proc_root: impl Into<PathBuf>) -> Self {
        Self { proc_root: proc_root.into(), cgroups: placement::mount(), digests: Digests::new(), descent: None }
    }

    /// Tells lineages too, from the kernel's record of executions.
    #[must_use]
    pub fn with_executions(self, executions: Arc<dyn Executions>) -> Self {
        Self { descent: Some(Descent::new(executions)), ..self }
    }

    /// The process that opened the connection of `origin`; the cgroup enrolled above it is `enrolled`, a path below the
    /// cgroup v2 mount.
    ///
    /// `start_time` is 0 and `executable` none when that process is gone, or its id belongs to a process that started
    /// after the `connect()`. `executable` alone is none when it is another one than at `connect()`, cannot be read, lies on a FUSE file system
    /// (whose owner chooses what each read returns), is over 1 GiB, or changed while it was read. `lineage` is unknown
    /// in the first cases, and where the kernel keeps no record of executions.
    ///
    /// Blocking: executables that were not seen before are read and hashed whole, its own and those of its lineage, up
    /// to 1 GiB together (about 1 s); those of the lineage that are over it have no digest this time.
    /// Call it from a blocking thread, and bound how many of them wait here.
    #[must_use]
    pub fn process(&self, origin: &Origin, enrolled: &Path) -> Process {
        let opened = self.open(origin);
        let placement = placement::of(opened.as_ref().map(|(dir, _)| dir), origin, enrolled, self.cgroups.as_deref());
        let mut process = Process::of(origin, placement);
        let Some((dir, start_time)) = opened else { return process };
        process.start_time = start_time;
        let mut budget = HASHED_MAX;
        let noted = origin.executed.as_ref().filter(|noted| stat::ticks(noted.start) == start_time);
        let executable = noted.and_then(|noted| self.executable(&dir, noted, &mut budget));
        // Still the same process: the directory's descriptor pins the process id, but a fork cannot be excluded
        // from having replaced it where `/proc` is not the kernel's own.
        if stat::start_time(&dir) == Some(start_time) {
            process.executable = executable;
        }
        if let Some(descent) = &self.descent {
            process.lineage = descent.of(origin, process.executable.as_ref(), self, &mut budget);
        }
        process
    }

    /// What process `pid` executes, if that is what was noted of it.
    fn executes(&self, pid: u32, noted: &Executed, budget: &mut u64) -> Option<Executable> {
        let dir = self.directory(pid)?;
        let is_it = stat::start_time(&dir)? == stat::ticks(noted.start);
        if is_it { self.executable(&dir, noted, budget) } else { None }
    }

    /// Opens the process's directory, which then stays this process's, whatever becomes of its id.
    fn open(&self, origin: &Origin) -> Option<(OwnedFd, u64)> {
        let dir = self.directory(origin.pid)?;
        let start_time = stat::start_time(&dir)?;
        (start_time <= stat::ticks_since_boot(origin.connected_at)).then_some((dir, start_time))
    }

    fn directory(&self, pid: u32) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(self.proc_root.join(pid.to_string()), flags, Mode::empty()).ok()
    }

    fn executable(&self, dir: &OwnedFd, noted: &Executed, budget: &mut u64) -> Option<Executable> {
        let path = rustix::fs::readlinkat(dir, "exe", Vec::new()).ok()?;
        // O_PATH: nothing is read, and no device or server is asked, before we know what it is.
        let file = openat(dir, "exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        if !digest::is(&file, dir, noted) {
            return None;
        }
        let (id, sha256) = self.digests.of(&file, dir, budget)?;
        Some(Executable {
            path: path.to_string_lossy().into_owned(),
            device: id.device,
            inode: id.inode,
            sha256: sha256.to_string(),
        })
    }
}

/// Every uid of process `pid` (real, effective, saved, file system), in the reader's user namespace, sorted.
/// Empty when it is gone.
#[must_use]
pub fn uid_of(pid: u32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let mut uids: Vec<u32> = line.split_ascii_whitespace().filter_map(|uid| uid.parse().ok()).collect();
    uids.sort_unstable();
    uids.dedup();
    uids
}

impl Default for Attestor {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use callgate_model::{CgroupId, Monotonic, NetnsCookie};

    use super::*;

    pub(super) fn origin(pid: u32, connected_at: Duration) -> Origin {
        Origin {
            destination: "10.0.0.1:443".parse().unwrap(),
            enrolled: CgroupId(1),
            cgroup: CgroupId(1),
            netns: NetnsCookie(1),
            pid,
            uid: 1000,
            gid: 1000,
            connected_at: Monotonic(connected_at),
            executed: executed(&Path::new("/proc").join(pid.to_string())),
        }
    }

    /// What the kernel would have noted of the process with this directory.
    pub(super) fn executed(dir: &Path) -> Option<Executed> {
        let file = fs::metadata(dir.join("exe")).ok()?;
        let open = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).ok()?;
        let start = Duration::from_millis(10 * stat::start_time(&open)?);
        Some(Executed { start, device: file.dev(), inode: file.ino() })
    }

    #[test]
    fn an_executable_that_the_kernel_did_not_note_is_unknown() {
        let mut child = cat();
        let told = |change: fn(&mut Executed)| {
            let mut origin = origin(child.id(), now());
            origin.executed.as_mut().map(change);
            Attestor::new().process(&origin, Path::new("")).executable
        };
        let known = told(|_| ()).is_some();
        let others: [fn(&mut Executed); 3] =
            [|noted| noted.inode += 1, |noted| noted.device += 1, |noted| noted.start += Duration::from_millis(10)];
        let unknown = others.map(told).iter().all(Option::is_none);
        let unnoted = Origin { executed: None, ..origin(child.id(), now()) };
        let nothing = Attestor::new().process(&unnoted, Path::new("")).executable.is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(known && unknown && nothing, "{known} {unknown} {nothing}");
    }

    pub(super) fn now() -> Duration {
        stat::read(rustix::time::ClockId::Monotonic)
    }

    /// A child that waits for its stdin to close.
    pub(super) fn cat() -> Child {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn names_and_hashes_the_executable() {
        let mut child = cat();
        let process = Attestor::new().process(&origin(child.id(), now()), Path::new(""));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_ne!(process.start_time, 0);
        assert_eq!((process.uid, process.gid), (1000, 1000));
        let executable = process.executable.unwrap();
        let file = fs::metadata(&executable.path).unwrap();
        assert_eq!(executable.inode, file.ino());
        assert_eq!(executable.device, file.dev());
        let sum = Command::new("sha256sum").arg(&executable.path).output().unwrap();
        assert!(String::from_utf8(sum.stdout).unwrap().starts_with(&executable.sha256));
    }

    #[test]
    fn knows_the_uids_of_a_process() {
        let own = rustix::process::geteuid().as_raw();
        assert!(uid_of(std::process::id()).contains(&own));
        assert!(uid_of(u32::MAX).is_empty());
    }

    #[test]
    fn refuses_a_process_that_started_after_the_connect() {
        let before = now().checked_sub(Duration::from_millis(50)).unwrap();
        let mut child = cat();
        let process = Attestor::new().process(&origin(child.id(), before), Path::new(""));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((process.start_time, process.executable), (0, None));
    }

    #[test]
    fn knows_nothing_of_a_process_that_is_gone() {
        let mut child = cat();
        child.kill().unwrap();
        child.wait().unwrap();
        let process = Attestor::new().process(&origin(child.id(), now()), Path::new(""));
        assert_eq!((process.start_time, process.executable), (0, None));
    }

    /// A proc tree with one process 7 that started at tick 5 and executes `exe`.
    fn fake_proc(root: &Path, exe: &Path) {
        let dir = root.join("7");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("stat"), "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 5 20\n").unwrap();
        fs::copy("/proc/self/mountinfo", dir.join("mountinfo")).unwrap();
        symlink(exe, dir.join("exe")).unwrap();
    }

    #[test]
    fn hashes_again_when_the_file_changed() {
        let root = tempfile::tempdir().unwrap();
        let exe = root.path().join("program");
        fs::write(&exe, "one").unwrap();
        fake_proc(root.path(), &exe);
        let attestor = Attestor::with_proc(root.path());
        let noted = || Origin { executed: executed(&root.path().join("7")), ..origin(7, now()) };
        let digest = || attestor.process(&noted(), Path::new("")).executable.unwrap().sha256;
        let one = digest();
        assert_eq!(one, "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed");
        assert_eq!(digest(), one);
        fs::write(&exe, "two").unwrap();
        assert_eq!(digest(), "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3");
    }

    #[test]
    fn takes_regular_files_only() {
        let root = tempfile::tempdir().unwrap();
        fake_proc(root.path(), Path::new("/dev/zero"));
        let origin = Origin { executed: executed(&root.path().join("7")), ..origin(7, now()) };
        assert!(origin.executed.is_some());
        let process = Attestor::with_proc(root.path()).process(&origin, Path::new(""));
        assert_eq!((process.start_time, process.executable), (5, None));
    }
}
