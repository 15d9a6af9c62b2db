//! What CMD can and cannot do in the sandbox of `run`. Needs root, a cgroup v2 mount and Landlock ABI 6.

mod common;

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use common::{NOBODY, Run};

#[test]
fn gives_up_every_privilege() {
    let run = Run::new("privileges");
    let status = run.sh("grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp):?' /proc/self/status | tr -s '\\t ' ' '");
    for line in [
        "Uid: 65534 65534 65534 65534",
        "Gid: 65534 65534 65534 65534",
        "Groups: 65534",
        "CapInh: 0000000000000000",
        "CapPrm: 0000000000000000",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000000",
        "CapAmb: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
    ] {
        assert!(status.lines().any(|l| l.trim_end() == line), "{line} in\n{status}");
    }
}

#[test]
fn root_keeps_what_containers_have_and_steers_no_kernel() {
    let run = Run::as_root("root");
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, AUDIT_WRITE, SETFCAP
    let kept: u64 = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31].iter().map(|bit| 1u64 << bit).sum();
    let status = run.sh("grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status");
    assert_eq!(status.matches(&format!("{kept:016x}")).count(), 3, "{status}");
    let output = run.sh(
        "touch /proc/sys/kernel/core_pattern 2>&1; echo x 2>&1 >/proc/sysrq-trigger; \
         mknod /tmp/callgate-node b 8 0 2>&1; rmdir /sys/fs/x 2>&1; touch /sys/kernel/x 2>&1; umount /proc/sys 2>&1; true",
    );
    assert_eq!(output.matches("Read-only file system").count(), 3, "{output}");
    assert!(output.contains("mknod: /tmp/callgate-node: Operation not permitted"), "{output}");
    let disks = run.sh("for f in $(find /dev -name 'vd*' -o -name 'sd*' -o -name 'loop*' -o -name 'nvme*'); do [ -b $f ] && echo $f; done; true");
    assert_eq!(disks, "");
}

#[test]
fn is_born_in_the_cgroup_and_cannot_leave_it() {
    for run in [Run::new("cgroup-user"), Run::as_root("cgroup-root")] {
        let output = run.sh("grep ^0:: /proc/self/cgroup");
        assert!(run.cgroup.path().to_str().unwrap().ends_with(output.strip_prefix("0::").unwrap()), "{output}");
        let mount = callgate_enroll::cgroup::cgroup2_mount().unwrap();
        let mount = mount.display();
        let (own, script) = (run.cgroup.path().display(), "2>&1; true");
        let output = run.sh(&format!("echo 0 >{mount}/cgroup.procs {script}"));
        assert!(output.contains("Read-only file system"), "{output}");
        let output = run.sh(&format!("mkdir {own}/sub {script}"));
        assert!(output.contains("Read-only file system"), "{output}");
        let trees = run.sh("awk '$3 ~ /^cgroup/ && $4 !~ /^ro/' /proc/mounts");
        assert_eq!(trees, "", "writable cgroup trees");
    }
}

#[test]
fn inherits_three_descriptors() {
    let run = Run::new("descriptors");
    let leaked = fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    // 3 is the directory that `os.listdir` itself opens.
    assert_eq!(run.python("import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"), "[0, 1, 2, 3]");
}

#[test]
fn gets_its_users_environment() {
    let run = Run::new("environment");
    assert_eq!(run.sh("echo $HOME,$USER,$LOGNAME,$SET,$SUDO_UID"), "/nonexistent,nobody,nobody,for CMD,");
}

#[test]
fn asks_for_sockets_of_four_families_only() {
    let run = Run::new("families");
    let output = run.python(
        "
import errno, socket
for family in range(46):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            socket.socket(family, kind, 0).close()
            print(family, kind, 'open')
        except OSError as e:
            if family not in (1, 2, 10, 16) and e.errno != errno.EAFNOSUPPORT:
                print(family, kind, e)
for protocol in (4, 9, 15, 16):
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        print('netlink', protocol)
    except OSError as e:
        assert e.errno == errno.EPROTONOSUPPORT, e
",
    );
    assert_eq!(output, "1 1 open\n1 2 open\n1 3 open\n2 1 open\n2 2 open\n10 1 open\n10 2 open\n16 2 open\n16 3 open");
}

#[test]
fn makes_no_io_uring_and_types_into_no_terminal() {
    let run = Run::new("calls");
    let output = run.python(
        "
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    libc.syscall(number, *arguments)
    return errno.errorcode.get(ctypes.get_errno(), 0)
x86 = os.uname().machine == 'x86_64'
print(call(425, 1, 0), call(321 if x86 else 280, 0, 0, 0), call(29 if not x86 else 16, 0, 0x5412, b'x'))
",
    );
    assert_eq!(output, "ENOSYS EPERM EPERM");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn has_no_second_system_call_table() {
    let run = Run::new("x32");
    // socket() by its x32 number: refused by us, or absent where the kernel has no x32.
    let output = run.python(
        "
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(0x40000000 + 41, 2, 1, 0), ctypes.get_errno() != 0)
",
    );
    assert_eq!(output, "-1 True");
}

#[test]
fn root_has_no_child_in_another_cgroup() {
    let run = Run::as_root("clone3");
    let elsewhere = Run::new("clone3-elsewhere");
    // clone3 (435) with CLONE_INTO_CGROUP: the tree is read-only, which that call does not ask.
    let output = run.python(&format!(
        "
import ctypes, errno, os, struct
libc = ctypes.CDLL(None, use_errno=True)
cgroup = os.open('{}', os.O_RDONLY | os.O_DIRECTORY)
arguments = struct.pack('11Q', 0x200000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, cgroup)
child = libc.syscall(435, arguments, len(arguments))
if child == 0:
    os._exit(0)
print(child, errno.errorcode.get(ctypes.get_errno(), 0))
",
        elsewhere.cgroup.path().display()
    ));
    assert_eq!(output, "-1 ENOSYS");
}

#[test]
fn reaches_no_abstract_socket_and_signals_nobody_outside() {
    let run = Run::new("scopes");
    let name = format!("callgate-test-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let mut outside = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    let own = Run::as_root("scopes-root");
    for run in [&run, &own] {
        let output = run.python(&format!(
            "
import os, signal, socket, subprocess
s = socket.socket(socket.AF_UNIX)
try:
    s.connect('\\0{name}')
    print('connected')
except PermissionError:
    print('abstract refused')
try:
    os.kill({outside}, signal.SIGTERM)
    print('signalled')
except PermissionError:
    print('signal refused')
try:
    open('/proc/{outside}/mem', 'rb')
    print('memory opened')
except PermissionError:
    print('memory refused')
try:
    os.listdir('/proc/{outside}/root/')
    print('root opened')
except PermissionError:
    print('root refused')
child = subprocess.Popen(['sleep', '100'])
child.kill()
print('own child', child.wait())
",
            outside = outside.id()
        ));
        assert_eq!(output, "abstract refused\nsignal refused\nmemory refused\nroot refused\nown child -9");
    }
    outside.kill().unwrap();
    outside.wait().unwrap();
}

#[test]
fn sees_the_trust_files_and_nothing_else_of_ours() {
    for run in [Run::new("own-user"), Run::as_root("own-root")] {
        let (runtime, trust, state) = (&run.sandbox.runtime_dir, &run.sandbox.trust, &run.sandbox.hide[0]);
        assert_eq!(
            run.sh(&format!("ls {} {0}/*; cat {}/ca.pem", runtime.display(), trust.display()))
                .matches("ca.pem")
                .count(),
            1
        );
        assert_eq!(
            run.sh(&format!("ls -A {} {}", state.display(), runtime.display())).matches("agent.sock").count(),
            0
        );
        assert_eq!(run.sh(&format!("ls -A {}", state.display())), "");
        let output = run.sh(&format!("touch {}/x 2>&1; true", trust.display()));
        assert!(output.contains("Read-only") || output.contains("denied"), "{output}");
    }
    // Even when the directory around them is exposed.
    let mut run = Run::new("own-exposed");
    run.sandbox.expose.push(run.dir.path().to_owned());
    assert_eq!(run.sh(&format!("ls -A {}", run.sandbox.hide[0].display())), "");
}

#[test]
fn finds_no_starter_of_processes() {
    let tmux = format!("/tmp/tmux-{NOBODY}");
    let existed = fs::exists(&tmux).unwrap();
    let run = Run::new("starters");
    let output = run
        .sh("find /run -type s -o -type p | grep -v '^/run/systemd/journal/'; ls -d /run/dbus /run/docker.sock 2>&1; \
         ls -A /var/spool/cron /tmp/.X11-unix 2>/dev/null; true");
    assert_eq!(
        output,
        "ls: cannot access '/run/dbus': No such file or directory\nls: cannot access '/run/docker.sock': No such file or directory"
    );
    assert_eq!(run.sh("echo x >/run/user/65534/file; ls /run/user"), "65534");
    assert!(!fs::exists("/run/user/65534/file").unwrap());

    // A tmux started later, outside, makes its socket where CMD does not look.
    let late = UnixListener::bind(format!("{tmux}/default")).unwrap();
    assert_eq!(run.sh(&format!("ls -A {tmux}")), "");
    drop(late);
    fs::remove_file(format!("{tmux}/default")).unwrap();
    if !existed {
        fs::remove_dir(&tmux).unwrap();
    }
}

#[test]
fn a_user_namespace_uncovers_nothing() {
    for run in [Run::new("userns-user"), Run::as_root("userns-root")] {
        let (code, _) = run.script("sh", "unshare --user --map-root-user --mount true");
        if code != 0 {
            println!("absent: unprivileged user namespaces");
            return;
        }
        let mount = callgate_enroll::cgroup::cgroup2_mount().unwrap();
        let (mount, own) = (mount.display(), run.dir.path().display());
        let output = run.sh(&format!(
            "unshare --user --map-root-user --mount --cgroup sh -c '
                umount /run && echo uncovered run
                umount -l /run && echo uncovered run lazily
                umount {mount} && echo uncovered cgroups
                mount -o remount,rw,bind {mount} && echo writable cgroups
                echo 0 > {mount}/cgroup.procs && echo moved
                mount -t bpf bpf /mnt && echo bpffs
                nsenter -t {outside} -m true && echo outside
                # A tree of its own begins at its own cgroup, and a child of that is still enrolled.
                mkdir {own}/tree && mount -t cgroup2 none {own}/tree && ls {own}/tree | grep callgate
            ' 2>/dev/null; grep ^0:: /proc/self/cgroup",
            outside = std::process::id()
        ));
        assert!(run.cgroup.path().to_str().unwrap().ends_with(output.strip_prefix("0::").unwrap()), "{output}");
    }
}

#[test]
fn hides_sockets_wherever_they_are_unless_exposed() {
    let mut run = Run::new("sockets");
    let socket = run.dir.path().join("starter.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let script = format!(
        "
import socket
s = socket.socket(socket.AF_UNIX)
try:
    s.connect('{}')
    print('connected')
except OSError as e:
    print(type(e).__name__)
",
        socket.display()
    );
    assert_eq!(run.python(&script), "ConnectionRefusedError");
    run.sandbox.expose.push(socket);
    assert_eq!(run.python(&script), "connected");
}

#[test]
fn exposes_one_socket_of_a_hidden_directory() {
    let tmux = format!("/tmp/tmux-{NOBODY}");
    let mut run = Run::new("exposed");
    let dir = format!("/run/callgate-test-{}", std::process::id());
    fs::create_dir_all(format!("{dir}/inner")).unwrap();
    let (one, other) = (format!("{dir}/inner/one"), format!("{dir}/inner/other"));
    let _listeners = [UnixListener::bind(&one).unwrap(), UnixListener::bind(&other).unwrap()];
    fs::write(format!("{dir}/file"), "content").unwrap();
    // Not by `find`: it asks the directory, which knows the file below the mount.
    let script = format!("cat {dir}/file; for f in {one} {other}; do [ -S $f ] && echo $f; done; true");
    assert_eq!(run.sh(&script), "content");
    run.sandbox.expose.push(one.clone().into());
    assert_eq!(run.sh(&script), format!("content{one}"));
    fs::remove_dir_all(&dir).unwrap();
    run.sandbox.expose = vec!["/no/such/path".into()];
    let error = run.command(&["true"]).unwrap_err().to_string();
    assert!(error.contains("/no/such/path"), "{error}");
    let _ = fs::remove_dir(tmux);
}

#[test]
fn weakened_only_where_asked() {
    let mut run = Run::new("weakened");
    run.sandbox.allow_setuid = true;
    let status = run.sh("grep -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/self/status | tr -s '\\t ' ' '");
    assert_eq!(status, "CapBnd: 0000000000000000\nNoNewPrivs: 0\nSeccomp: 0");
    run.sandbox.allow_setuid = false;
    run.sandbox.landlock = false;
    let name = format!("callgate-test-weak-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let script = format!("import socket; socket.socket(socket.AF_UNIX).connect('\\0{name}')");
    assert_eq!(run.python(&script), "");
}

#[test]
fn returns_the_exit_code() {
    let run = Run::new("codes");
    assert_eq!(run.command(&["true"]).unwrap(), 0);
    assert_eq!(run.command(&["sh", "-c", "exit 3"]).unwrap(), 3);
    assert_eq!(run.command(&["sh", "-c", "kill -TERM $$"]).unwrap(), 128 + 15);
    assert_eq!(run.command(&["sh", "-c", "kill -KILL $$"]).unwrap(), 128 + 9);
    assert_eq!(run.command(&["callgate-no-such-command"]).unwrap(), 127);
    assert_eq!(run.command(&["/etc/passwd"]).unwrap(), 126);
    assert_eq!(run.command(&["/etc"]).unwrap(), 126);
}

#[test]
fn starts_nothing_that_is_not_locked_in() {
    let mut run = Run::new("failure");
    run.sandbox.cgroup = "/sys/fs/cgroup/callgate-no-such-cgroup".into();
    let file = run.dir.path().join("ran");
    let error = run.command(&["touch", file.to_str().unwrap()]).unwrap_err().to_string();
    assert!(error.contains("callgate-no-such-cgroup") && error.contains("not started"), "{error}");
    assert!(!file.exists());
}

#[test]
fn leaves_no_process_behind() {
    let run = Run::new("left");
    assert_eq!(run.command(&["sh", "-c", "setsid sleep 1000 & setsid sleep 1000 &"]).unwrap(), 0);
    assert_eq!(callgate_enroll::cgroup::processes(run.cgroup.path()).unwrap().len(), 2);
    run.cgroup.kill().unwrap();
    assert!(callgate_enroll::cgroup::processes(run.cgroup.path()).unwrap().is_empty());
}
