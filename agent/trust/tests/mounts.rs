//! Mounts in real mount namespaces: seen there and nowhere else, read-only, replaced with the CA, and undone.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use callgate_trust::{Ca, Space, TrustError, probe};

/// A container in the small: a mount namespace with a root directory of its own, and a shell in it.
struct Container {
    shell: Child,
    output: BufReader<std::process::ChildStdout>,
    _root: tempfile::TempDir,
}

/// Makes the root, goes there, and reads commands.
const MADE: &str = r#"
set -e
mount -t tmpfs container "$0"; cd "$0"
mkdir -p usr etc/ssl proc dev old venv/lib/python3.9/site-packages/certifi
mount --rbind /usr usr; mount --rbind /dev dev; mount -t proc proc proc
for name in bin sbin lib lib64; do [ -e /$name ] && ln -s usr/$name $name; done
cp -a /etc/ssl/certs etc/ssl/certs; cp -aL /etc/ssl/certs/ca-certificates.crt venv/lib/python3.9/site-packages/certifi/cacert.pem
pivot_root . old; umount -l /old
[ -z "$1" ] || mount --make-rshared /
echo made
exec sh
"#;

impl Container {
    fn new(shared: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut shell = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", MADE])
            .arg(root.path())
            .arg(if shared { "shared" } else { "" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(shell.stdout.take().unwrap());
        let mut container = Self { shell, output, _root: root };
        assert_eq!(container.line(), "made");
        container
    }

    fn space(&self) -> Space {
        Space::of(self.shell.id()).unwrap()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Has the shell itself do it.
    fn run(&mut self, command: &str) {
        writeln!(self.shell.stdin.as_mut().unwrap(), "{command}").unwrap();
    }

    /// The one line that `command` prints in there.
    fn told(&mut self, command: &str) -> String {
        self.run(&format!("{{ {command}; }} 2>&1 | tr '\\n' ' '; echo"));
        self.line().trim_end().to_owned()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.shell.kill().and_then(|()| self.shell.wait()).unwrap();
    }
}

fn ca(name: &str) -> (String, Ca) {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let pem = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    (pem.lines().nth(2).unwrap().to_owned(), Ca::of_pem(&pem).unwrap())
}

const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
const CERTIFI: &str = "/venv/lib/python3.9/site-packages/certifi/cacert.pem";
const SUMS: &str = "cat $(find /etc/ssl/certs -type f | sort) /venv/lib/python3.9/site-packages/certifi/cacert.pem | \
                    sha256sum; ls /etc/ssl/certs | sha256sum";

fn counts(container: &mut Container, line: &str) -> [String; 2] {
    [BUNDLE, CERTIFI].map(|file| container.told(&format!("grep -cF -- '{line}' {file}")))
}

#[test]
fn what_is_mounted_is_seen_there_alone_and_goes_again() {
    let scratch = tempfile::tempdir().unwrap();
    let ((line, first), (other_line, second)) = (ca("first"), ca("second"));
    let mut container = Container::new(false);
    let host = fs::read(BUNDLE).unwrap();
    let before = container.told(SUMS);
    let delivered = container.space().deliver(&first, scratch.path(), &|| true).unwrap();
    // The packages of the host's Python may bring roots, too.
    let all = delivered.mounted.len();
    assert!(
        ["/etc/ssl/certs", CERTIFI].iter().all(|path| delivered.mounted.iter().any(|one| one == path)),
        "{delivered:?}"
    );
    assert!(delivered.left.is_empty() && delivered.already.is_empty(), "{delivered:?}");
    assert_eq!(counts(&mut container, &line), ["1", "1"]);
    // OpenSSL finds it by its hash.
    let by_hash =
        format!("openssl verify -no-CAfile -CApath /etc/ssl/certs $(grep -lF -- '{line}' /etc/ssl/certs/*.[0-9])");
    assert_eq!(container.told(&format!("{by_hash} | grep -c OK")), "1");
    for attempt in
        [format!("echo x >> {BUNDLE}"), "touch /etc/ssl/certs/new".to_owned(), format!("chmod 666 {CERTIFI}")]
    {
        assert_eq!(container.told(&format!("( {attempt} ) >/dev/null 2>&1 && echo yes || echo no")), "no", "{attempt}");
    }
    // Once is enough, and nobody else sees anything of it.
    let again = container.space().deliver(&first, scratch.path(), &|| true).unwrap();
    assert!(again.mounted.is_empty() && again.already.len() >= 2, "{again:?}");
    assert_eq!(container.told("grep -c callgate-trust /proc/self/mountinfo"), all.to_string());
    assert_eq!(fs::read(BUNDLE).unwrap(), host);
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("callgate-trust"));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    // Another CA replaces the first one instead of covering it.
    container.space().deliver(&second, scratch.path(), &|| true).unwrap();
    assert_eq!(container.told("grep -c callgate-trust /proc/self/mountinfo"), all.to_string());
    assert_eq!(
        (counts(&mut container, &line), counts(&mut container, &other_line)),
        (["0".to_owned(), "0".to_owned()], ["1".to_owned(), "1".to_owned()])
    );
    assert_eq!(container.space().take_back().unwrap(), all);
    assert_eq!(container.told("grep -c callgate-trust /proc/self/mountinfo"), "0");
    assert_eq!(container.told(SUMS), before);
    assert_eq!(container.space().take_back().unwrap(), 0);
}

#[test]
fn another_mount_over_ours_is_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let mut container = Container::new(false);
    let all = container.space().deliver(&ca("first").1, scratch.path(), &|| true).unwrap().mounted.len();
    container.told("mount -t tmpfs theirs /etc/ssl/certs");
    assert_eq!(container.space().take_back().unwrap(), all - 1);
    assert_eq!(container.told("grep -c ' tmpfs theirs ' /proc/self/mountinfo"), "1");
    // A link in the way of a mount that is to go leads to no other.
    container.told("umount /etc/ssl/certs; mv /etc/ssl /etc/moved; ln -s /proc /etc/ssl");
    assert_eq!(container.space().take_back().unwrap(), 1);
    assert_eq!(container.told("grep -c ' /proc ' /proc/self/mountinfo"), "1");
}

#[test]
fn what_others_would_see_is_not_mounted() {
    let scratch = tempfile::tempdir().unwrap();
    let mut container = Container::new(true);
    let delivered = container.space().deliver(&ca("first").1, scratch.path(), &|| true).unwrap();
    assert!(delivered.mounted.is_empty() && delivered.left.len() >= 2, "{delivered:?}");
    assert!(delivered.left.iter().all(|(_, why)| why.contains("outside of the container")), "{delivered:?}");
    assert_eq!(container.told("grep -c callgate-trust /proc/self/mountinfo"), "0");
}

#[test]
fn what_is_no_longer_wanted_when_it_is_done_is_undone() {
    let scratch = tempfile::tempdir().unwrap();
    let mut container = Container::new(false);
    // Before the first mount, after it, and only when all are done.
    for yes in [0, 1, usize::MAX] {
        let (asked, mounted) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let table = format!("/proc/{}/mountinfo", container.shell.id());
        let wanted = || {
            let ours = fs::read_to_string(&table).unwrap().matches("callgate-trust").count();
            mounted.fetch_max(ours, Ordering::Relaxed);
            asked.fetch_add(1, Ordering::Relaxed) < yes && ours < 2
        };
        let refused = container.space().deliver(&ca("first").1, scratch.path(), &wanted);
        assert!(matches!(refused, Err(TrustError::Unwanted)), "{refused:?}");
        assert_eq!(mounted.into_inner(), yes.min(2), "it was mounted and then undone");
        assert_eq!(container.told("grep -c callgate-trust /proc/self/mountinfo"), "0");
    }
}

#[test]
fn a_file_system_that_answers_after_the_end_leaves_no_mount() {
    let scratch = tempfile::tempdir().unwrap();
    let mut container = Container::new(false);
    // Nobody serves it: whoever looks into it waits, until the shell lets go of it.
    let mount = "mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 dead /venv && echo made";
    container.run("exec 3<>/dev/fuse");
    assert_eq!(container.told(mount), "made");
    let (wanted, space, first) = (AtomicBool::new(true), container.space(), ca("first").1);
    std::thread::scope(|scope| {
        let (told, answer) = mpsc::channel();
        scope.spawn(|| {
            let told = told;
            told.send(space.deliver(&first, scratch.path(), &|| wanted.load(Ordering::SeqCst))).unwrap();
        });
        assert!(matches!(answer.recv_timeout(Duration::from_millis(500)), Err(RecvTimeoutError::Timeout)));
        wanted.store(false, Ordering::SeqCst);
        assert_eq!(container.space().take_back().unwrap(), 0);
        container.run("exec 3>&-");
        let refused = answer.recv().unwrap();
        assert!(matches!(refused, Err(TrustError::Unwanted)), "{refused:?}");
    });
    assert_eq!(container.told("grep -c callgate-trust /proc/self/mountinfo"), "0");
}

#[test]
fn a_process_that_is_gone_keeps_no_mount_of_its_namespace() {
    let scratch = tempfile::tempdir().unwrap();
    let mut container = Container::new(false);
    let mut one = Command::new("nsenter")
        .args(["--mount", "--root", "--wd", "--target", &container.shell.id().to_string(), "/bin/cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(one.stdin.as_mut().unwrap(), "there").unwrap();
    BufReader::new(one.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let space = Space::of(one.id()).unwrap();
    let all = space.deliver(&ca("first").1, scratch.path(), &|| true).unwrap().mounted.len();
    one.kill().and_then(|()| one.wait()).unwrap();
    assert!(!space.is_alive());
    assert_eq!(space.take_back().unwrap(), all);
    assert_eq!(container.told("grep -c callgate-trust /proc/self/mountinfo"), "0");
}

#[test]
fn the_hosts_namespace_and_root_are_refused() {
    assert!(matches!(Space::of(std::process::id()), Err(TrustError::OwnNamespace(_))));
    // The first process may be out of reach, in a user namespace above.
    assert!(matches!(Space::of(1), Err(TrustError::OwnNamespace(_) | TrustError::Process { .. })));
    // A namespace of its own, and still the host's root: a container that is being made, or a service of systemd.
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", "echo made; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let refused = Space::of(child.id());
    child.kill().and_then(|()| child.wait()).unwrap();
    assert!(matches!(refused, Err(TrustError::OwnNamespace(_))), "{refused:?}");
    assert!(matches!(Space::of(u32::MAX), Err(TrustError::Process { .. })));
}

#[test]
fn this_kernel_can_do_it() {
    let scratch = tempfile::tempdir().unwrap();
    assert_eq!(probe(scratch.path()).unwrap(), "mounts can be made");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    assert!(matches!(probe(Path::new("/nothing/there")), Err(TrustError::Mount { .. })));
}
