//! Debian packages: one table of what is needed and how to see that it is there.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::exec;

struct Need {
    package: &'static str,
    /// A program, or a file by its absolute path.
    shows: &'static str,
}

/// The compiler for aws-lc and SQLite; the one for the warden's kernel programs, and what libbpf is linked with; what the
/// tests call; clients whose trust the tests check.
const NEEDS: &[Need] = &[
    Need { package: "build-essential", shows: "cc" },
    Need { package: "build-essential", shows: "/usr/include/stdio.h" },
    Need { package: "ca-certificates", shows: "/etc/ssl/certs/ca-certificates.crt" },
    Need { package: "clang-19", shows: "clang-19" },
    Need { package: "curl", shows: "curl" },
    Need { package: "git", shows: "git" },
    Need { package: "iproute2", shows: "ip" },
    Need { package: "libelf-dev", shows: "/usr/include/libelf.h" },
    Need { package: "nodejs", shows: "node" },
    Need { package: "openjdk-17-jdk-headless", shows: "java" },
    Need { package: "openjdk-17-jdk-headless", shows: "jlink" },
    Need { package: "pkg-config", shows: "pkg-config" },
    Need { package: "python3", shows: "/usr/bin/python3" },
    Need { package: "python3-grpcio", shows: "/usr/lib/python3/dist-packages/grpc/__init__.py" },
    Need { package: "python3-h2", shows: "/usr/lib/python3/dist-packages/h2/__init__.py" },
    Need { package: "python3-httpx", shows: "/usr/lib/python3/dist-packages/httpx/__init__.py" },
    Need { package: "python3-requests", shows: "/usr/lib/python3/dist-packages/requests/__init__.py" },
    Need { package: "util-linux", shows: "nsenter" },
    Need { package: "zlib1g-dev", shows: "/usr/include/zlib.h" },
];

/// What the program of `tests/chart/render` is made of: Go, and the packages that helm is made of too.
const CHART_NEEDS: &[Need] = &[
    Need {
        package: "golang-github-masterminds-sprig-dev",
        shows: "/usr/share/gocode/src/github.com/Masterminds/sprig/functions.go",
    },
    Need {
        package: "golang-github-xeipuuv-gojsonschema-dev",
        shows: "/usr/share/gocode/src/github.com/xeipuuv/gojsonschema/schema.go",
    },
    Need { package: "golang-go", shows: "go" },
    Need { package: "golang-gopkg-yaml.v3-dev", shows: "/usr/share/gocode/src/gopkg.in/yaml.v3/yaml.go" },
];

/// Installs what is missing for everything; says what it did.
pub fn install() -> Result<String> {
    provide(NEEDS)
}

/// As [`install`], for the chart alone.
pub fn install_for_chart() -> Result<String> {
    provide(CHART_NEEDS)
}

fn provide(needs: &[Need]) -> Result<String> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok("present".to_owned());
    }
    println!("    missing: {}", missing.join(" "));
    let command = format!("apt-get install {}", missing.join(" "));
    ensure!(exec::has_program("apt-get"), "no apt-get here: install the equivalents of {}", missing.join(", "));
    ensure!(exec::is_root(), "not root: run `sudo {command}`, then this again");
    // The lists are fetched only when the packages are not known, which is the case in a fresh container.
    if exec::run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&missing)).is_err() {
        exec::run(apt_get().arg("update"))?;
        exec::run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&missing))?;
    }
    let still = self::missing(needs);
    ensure!(still.is_empty(), "still missing after `{command}`: {}", still.join(" "));
    Ok(format!("installed {}", missing.join(" ")))
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    let mut packages: Vec<_> = needs.iter().filter(|need| !is_there(need.shows)).map(|need| need.package).collect();
    packages.dedup();
    packages
}

fn is_there(shows: &str) -> bool {
    if shows.starts_with('/') { Path::new(shows).exists() } else { exec::has_program(shows) }
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet", "--option", "DPkg::Lock::Timeout=120"]);
    command
}
