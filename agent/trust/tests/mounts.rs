//! Mounts in real mount namespaces: seen there and nowhere else, read-only, replaced with the CA, and undone.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

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
[ -z "$1" ] || mount --make-shared .
pivot_root . old; umount -l /old
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

    /// The one line that `command` prints in there.
    fn told(&mut self, command: &str) -> String {
        writeln!(self.shell.stdin.as_mut().unwrap(), "{{ {command}; }} 2>&1 | tr '\\n' ' '; echo").unwrap();
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
    let delivered = container.space().deliver(&first, scratch.path()).unwrap();
    assert_eq!(delivered.mounted, ["/etc/ssl/certs", CERTIFI], "{delivered:?}");
    assert!(delivered.left.is_empty() && delivered.already.is_empty(), "{delivered:?}");
    assert_eq!(counts(&mut container, &line), ["1", "1"]);
    assert_eq!(
        container.told(
            "openssl verify -CAfile /dev/null -CApath /etc/ssl/certs $(ls /etc/ssl/certs/*.pem | head -1) | grep -c OK"
        ),
        "1"
    );
    for attempt in [
        format!("echo x >> {BUNDLE}"),
        "touch /etc/ssl/certs/new".to_owned(),
        format!("chmod 666 {CERTIFI}"),
        format!("mount -o remount,rw {BUNDLE}"),
    ] {
        assert_eq!(container.told(&format!("( {attempt} ) >/dev/null 2>&1 && echo yes || echo no")), "no", "{attempt}");
    }
    // Once is enough, and nobody else sees anything of it.
    let again = container.space().deliver(&first, scratch.path()).unwrap();
    assert!(again.mounted.is_empty() && again.already.len() >= 2, "{again:?}");
    assert_eq!(container.told("grep -c callgate-trust /proc/self/mountinfo"), "2");
    assert_eq!(fs::read(BUNDLE).unwrap(), host);
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("callgate-trust"));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    // Another CA replaces the first one instead of covering it.
    container.space().deliver(&second, scratch.path()).unwrap();
    assert_eq!(container.told("grep -c callgate-trust /proc/self/mountinfo"), "2");
    assert_eq!(
        (counts(&mut container, &line), counts(&mut container, &other_line)),
        (["0".to_owned(), "0".to_owned()], ["1".to_owned(), "1".to_owned()])
    );
    assert_eq!(container.space().take_back().unwrap(), 2);
    assert_eq!(container.told("grep -c callgate-trust /proc/self/mountinfo"), "0");
    assert_eq!(container.told(SUMS), before);
    assert_eq!(container.space().take_back().unwrap(), 0);
}

#[test]
fn another_mount_over_ours_is_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let mut container = Container::new(false);
    container.space().deliver(&ca("first").1, scratch.path()).unwrap();
    container.told("mount -t tmpfs theirs /etc/ssl/certs");
    assert_eq!(container.space().take_back().unwrap(), 1, "certifi's");
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
    let delivered = container.space().deliver(&ca("first").1, scratch.path()).unwrap();
    assert!(delivered.mounted.is_empty() && delivered.left.len() == 2, "{delivered:?}");
    assert!(delivered.left.iter().all(|(_, why)| why.contains("outside of the container")), "{delivered:?}");
    assert_eq!(container.told("grep -c callgate-trust /proc/self/mountinfo"), "0");
}

#[test]
fn the_hosts_namespace_and_root_are_refused() {
    for pid in [std::process::id(), 1] {
        assert!(matches!(Space::of(pid), Err(TrustError::OwnNamespace(_))), "{pid}");
    }
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
