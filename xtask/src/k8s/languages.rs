//! Clients of several languages, each with the roots that it finds by itself: what of this machine they are made of, and
//! how one call is made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{exec, paths};

/// Clients that are there, with what they load.
pub const PROGRAMS: [&str; 3] = ["/usr/bin/curl", "/usr/bin/node", "/usr/bin/python3"];
/// Of Python. `VERSION` as in 3.11.
const PYTHON: &str = "/usr/lib/pythonVERSION";
/// Certificates by their hashes.
const HASHED: &str = "/etc/ssl/certs";
/// Where Debian's OpenSSL looks for them.
pub const LINKS: &[(&str, &str)] = &[("usr/lib/ssl/certs", "/etc/ssl/certs")];
/// Where an application's own Python keeps certifi's roots.
const CERTIFI: &str = "venv/lib/python3/site-packages/certifi";
/// Where images of Java have it.
const JAVA: &str = "opt/java/openjdk";
/// The programs that are compiled here.
const COMPILED: &str = "opt/clients";
/// The class of the client.
const JAVA_CLIENT: &str = "tests/cluster/client/Client.java";

/// One of them.
pub struct Client {
    pub name: &'static str,
    /// Its command, to which the address is added. It prints the status last.
    pub command: &'static [&'static str],
    /// Whether it can be told of the gate only at its start, by a variable.
    pub at_birth: bool,
}

const PYTHON_CALL: &str = "import ssl, sys, urllib.request as u; \
    c = ssl.create_default_context(cafile=sys.argv[1] or None); \
    print('status', u.urlopen(sys.argv[2], context=c, timeout=10).status)";
const NODE_CALL: &str = "fetch(process.argv[1]).then(a => console.log('status', a.status), \
    e => { console.error(e); process.exit(1) })";

/// All of them; a new one is a line.
pub const CLIENTS: &[Client] = &[
    Client {
        name: "curl",
        command: &[
            "curl",
            "--silent",
            "--show-error",
            "--max-time",
            "10",
            "--output",
            "/dev/null",
            "--write-out",
            "status %{http_code}",
        ],
        at_birth: false,
    },
    Client { name: "Go", command: &["/opt/clients/go"], at_birth: false },
    Client { name: "Python", command: &["python3", "-c", PYTHON_CALL, ""], at_birth: false },
    Client {
        name: "Python with certifi",
        command: &["python3", "-c", PYTHON_CALL, "/venv/lib/python3/site-packages/certifi/cacert.pem"],
        at_birth: false,
    },
    Client { name: "Java", command: &["/opt/java/openjdk/bin/java", "-cp", "/opt/clients", "Client"], at_birth: false },
    Client {
        name: "Node with OpenSSL's roots",
        command: &["node", "--use-openssl-ca", "-e", NODE_CALL],
        at_birth: false,
    },
    // Official builds bring their roots within the program.
    Client { name: "Node", command: &["node", "-e", NODE_CALL], at_birth: true },
];

/// What was made of them.
pub struct Languages {
    out: PathBuf,
    python: PathBuf,
}

/// Makes in `out` what is not there already.
pub fn make(repository: &Path, out: &Path) -> Result<Languages> {
    if out.exists() {
        fs::remove_dir_all(out)?;
    }
    let (compiled, certifi, java) = (out.join("compiled"), out.join("certifi"), out.join("java"));
    fs::create_dir_all(&compiled)?;
    fs::create_dir_all(&certifi)?;
    fs::copy(Path::new(HASHED).join("ca-certificates.crt"), certifi.join("cacert.pem")).context("CA roots")?;

    let mut go = Command::new("go");
    go.current_dir(repository.join("tests/cluster/client")).args(["build", "-o"]).arg(compiled.join("go")).arg(".");
    go.env("GO111MODULE", "off").env("GOFLAGS", "").env("CGO_ENABLED", "0");
    exec::run(go.env("GOCACHE", paths::cache()?.join("go")))?;

    exec::run(Command::new("javac").arg("-d").arg(&compiled).arg(repository.join(JAVA_CLIENT)))?;
    let mut link = Command::new("jlink");
    link.args(["--add-modules", "java.base,jdk.crypto.ec", "--strip-debug", "--no-header-files", "--no-man-pages"]);
    exec::run(link.arg("--output").arg(&java))?;

    let version = "import sys; print('%d.%d' % sys.version_info[:2])";
    let version = exec::output(Command::new(PROGRAMS[2]).args(["-I", "-c", version]))?;
    Ok(Languages { out: out.to_owned(), python: PYTHON.replace("VERSION", version.trim()).into() })
}

impl Languages {
    /// Each with its place in an image.
    pub fn folders(&self) -> Vec<(PathBuf, &str)> {
        let mut folders = vec![
            (self.out.join("compiled"), COMPILED),
            (self.out.join("certifi"), CERTIFI),
            (self.out.join("java"), JAVA),
            (self.python.clone(), &self.python.to_str().unwrap_or_default()[1..]),
            (HASHED.into(), &HASHED[1..]),
        ];
        // Debian's Node has parts of its library there.
        let node = Path::new("/usr/share/nodejs");
        if node.exists() {
            folders.push((node.to_owned(), "usr/share/nodejs"));
        }
        folders
    }
}
