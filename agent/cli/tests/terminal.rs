//! Signals, job control and the working directory: what concerns the whole process that `run` is.
//!
//! Each test starts this test binary again as a stand-in for `callgate run`, see [`stand_in`].

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::Run;
use rustix::process::{Pid, Signal, kill_process};

/// Set for the stand-in: what it runs, by a shell.
const COMMAND: &str = "CALLGATE_TEST_COMMAND";

/// The command line of the stand-in.
fn stand_in_arguments() -> [String; 4] {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    [program, "--exact".into(), "stand_in".into(), "--nocapture".into()]
}

/// Not a test: in the stand-in's process, runs the command in a sandbox and exits with its code.
#[test]
fn stand_in() {
    let Ok(command) = std::env::var(COMMAND) else { return };
    let run = Run::new("stand-in");
    let code = match run.command(&["/bin/sh", "-c", &command]) {
        Ok(code) => code.into(),
        Err(error) => {
            println!("error: {error:#}");
            99
        }
    };
    drop(run);
    std::process::exit(code);
}

/// Sends `signal` to the stand-in alone once CMD has said `ready`; returns the exit code.
fn signalled(script: &str, signal: Signal) -> i32 {
    let [program, arguments @ ..] = stand_in_arguments();
    // A session of its own: no terminal.
    let mut child = Command::new("setsid")
        .arg("--wait")
        // Whoever runs the tests in the background ignores SIGINT, and what is ignored stays ignored.
        .args(["env", "--default-signal"])
        .arg(program)
        .args(arguments)
        .env(COMMAND, script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let stand_in = lines.find_map(|line| line.strip_prefix("ready ").map(|pid| pid.parse().unwrap())).unwrap();
    kill_process(Pid::from_raw(stand_in).unwrap(), signal).unwrap();
    child.wait().unwrap().code().unwrap()
}

#[test]
fn passes_signals_on() {
    // CMD's parent is the stand-in: the stage becomes CMD.
    let script = |trap: &str| format!("trap 'exit 42' {trap}; echo ready $PPID; while :; do sleep 0.02; done");
    for (name, signal) in [("TERM", Signal::TERM), ("HUP", Signal::HUP), ("USR1", Signal::USR1), ("USR2", Signal::USR2)]
    {
        assert_eq!(signalled(&script(name), signal), 42, "{name}");
    }
    // Without a terminal these, too, reach only us.
    assert_eq!(signalled(&script("INT"), Signal::INT), 42);
    assert_eq!(signalled(&script("QUIT"), Signal::QUIT), 42);
    assert_eq!(signalled(&script("USR2"), Signal::TERM), 128 + 15);
}

#[test]
fn the_working_directory_does_not_lead_below_a_cover() {
    let [program, arguments @ ..] = stand_in_arguments();
    let hidden = tempfile::Builder::new().prefix("callgate-test-").tempdir_in("/run").unwrap();
    fs::write(hidden.path().join("file"), "").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(hidden.path().join("s")).unwrap();
    let output = |directory: &Path| {
        let stand_in = Command::new(&program)
            .args(&arguments)
            .env(COMMAND, "pwd; ls -A")
            .current_dir(directory)
            .stdout(Stdio::piped())
            .output();
        String::from_utf8(stand_in.unwrap().stdout).unwrap()
    };
    let shown = output(hidden.path());
    assert!(
        shown.contains(hidden.path().to_str().unwrap()) && shown.contains("\nfile\n") && !shown.contains("\ns\n"),
        "{shown}"
    );
    let session = Path::new("/run/dbus");
    let existed = session.exists();
    fs::create_dir_all(session).unwrap();
    let shown = output(session);
    assert!(shown.contains("error: ") && shown.contains("`/run/dbus` is hidden"), "{shown}");
    if !existed {
        fs::remove_dir(session).unwrap();
    }
}

#[test]
fn stops_and_continues_with_cmd_on_a_terminal() {
    /// Plays the user of an interactive shell on a terminal.
    const USER: &str = r#"
import os, pty, select, shlex, sys, time
line = ' '.join(map(shlex.quote, sys.argv[1:]))
pid, tty = pty.fork()
if pid == 0:
    os.environ['PS1'] = '> '
    os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])
seen = b''
def expect(text):
    global seen
    end = time.monotonic() + 20
    while text not in seen:
        if not select.select([tty], [], [], max(0, end - time.monotonic()))[0]:
            sys.exit(f'waited for {text}, saw {seen.decode(errors="replace")}')
        seen += os.read(tty, 4096)
    seen = seen[seen.index(text) + len(text):]
def say(text):
    os.write(tty, text.encode())
def run(script):
    say(f"CALLGATE_TEST_COMMAND={shlex.quote(script)} {line}\n")

# What is typed is echoed, so what is waited for is never typed as such.

# Ctrl-Z stops both, fg continues both, Ctrl-C reaches CMD once.
run('''python3 -c "
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit('inter' + 'rupted'))
print('star' + 'ted', flush=True)
while True:
    time.sleep(1)"''')
expect(b'started')
say('\x1a')
expect(b'Stopped')
say('echo shell-$((1+1))\n')
expect(b'shell-2')
say('fg\n')
time.sleep(0.3)
say('\x03')
expect(b'interrupted')
expect(b'> ')
say('echo code-$?\n')
expect(b'code-1')

# An editor stops its own process group: its signal does not reach us, yet we stop.
run('''python3 -c "import os; print('edi' + 'tor', flush=True); os.kill(0, 20); print('contin' + 'ued')"''')
expect(b'editor')
expect(b'Stopped')
say('fg\n')
expect(b'continued')
say('echo code-$?\n')
expect(b'code-0')

# A shell with job control of its own.
run('PS1="in> " exec bash --norc --noprofile -i')
expect(b'in> ')
say('sleep 100\n')
time.sleep(0.3)
say('\x1a')
expect(b'Stopped')
say('echo inner-$((3+4))\n')
expect(b'inner-7')
say('fg\n')
time.sleep(0.3)
say('\x03')
expect(b'in> ')
say('exit 5\n')
expect(b'> ')
say('echo code-$?\n')
expect(b'code-5')
say('exit\n')
"#;
    let mut user = Command::new("env");
    user.args(["--default-signal", "/usr/bin/python3", "-c", USER]).args(stand_in_arguments());
    let user = user.output().unwrap();
    assert!(user.status.success(), "{}", String::from_utf8_lossy(&user.stderr));
}
