//! Network namespaces and the veth pairs between them.
//!
//! A namespace is called `cgt-<pid>-<label><n>`; addresses come from 10.200.X.0/24 and fd00:200:X::/64, where X is
//! leased by a locked file, so that test processes side by side never share a network.
//! Never `ip netns exec`: it remounts /sys and so hides the cgroup tree; see [`Place`](crate::Place).

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::LinkNameSpaceType;

/// Where `ip netns` keeps its namespaces.
const NETNS_DIR: &str = "/run/netns";
/// One file for each 10.200.X.0/24, locked while the network is in use.
const LEASES: &str = "/run/callgate-test";
/// Names must differ within the process, whichever test asks.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A network namespace with its loopback up; deleted on drop, with the links in it.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace with no link but loopback.
    ///
    /// # Errors
    /// Without root, or when `ip` is missing.
    pub fn new(label: &str) -> Result<Netns> {
        let name = format!("cgt-{}-{label}{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name])?;
        let netns = Netns { name };
        ip(&["-n", &netns.name, "link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// Its name, as `ip -n` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that `nsenter --net=` takes.
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.name)
    }

    /// Runs `work` on a thread of its own inside the namespace; sockets made there stay there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        enter(&self.path(), work)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "delete", &self.name]) {
            eprintln!("harness: {error:#}");
        }
    }
}

/// Runs `work` on a thread of its own inside the network namespace at `path`.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn enter<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    std::thread::scope(|scope| {
        let entered = scope.spawn(|| -> Result<T> {
            enter_this_thread(&file)?;
            Ok(work())
        });
        entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves the calling thread into the network namespace that `file` names, for good.
///
/// # Errors
/// Without CAP_SYS_ADMIN.
pub fn enter_this_thread(file: &File) -> Result<()> {
    rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .context("enter the network namespace")
}

/// Two linked addresses: `a` and `b` of one veth pair; removed on drop.
#[derive(Debug)]
pub struct Veth {
    /// Address of the first end.
    pub a: Ipv4Addr,
    /// Address of the second end.
    pub b: Ipv4Addr,
    /// IPv6 address of the first end; none where the kernel has IPv6 off.
    pub a6: Option<Ipv6Addr>,
    /// IPv6 address of the second end.
    pub b6: Option<Ipv6Addr>,
    a_name: String,
    a_netns: Option<String>,
    _lease: File,
}

impl Veth {
    /// Links the host's own namespace (first end, `a`) with `netns` (second end, `b`), whose default route becomes `a`.
    ///
    /// # Errors
    /// Without root, or when no network of 10.200.0.0/16 is free.
    pub fn to_host(netns: &Netns) -> Result<Veth> {
        let veth = Veth::link(None, netns)?;
        ip(&["-n", &netns.name, "route", "add", "default", "via", &veth.a.to_string()])?;
        if let Some(a6) = veth.a6 {
            ip(&["-n", &netns.name, "-6", "route", "add", "default", "via", &a6.to_string()])?;
        }
        Ok(veth)
    }

    /// Links two namespaces directly: `a` lies in the first, `b` in the second. No route but that network's.
    ///
    /// # Errors
    /// As [`Veth::to_host`].
    pub fn between(first: &Netns, second: &Netns) -> Result<Veth> {
        Veth::link(Some(first), second)
    }

    fn link(first: Option<&Netns>, second: &Netns) -> Result<Veth> {
        let (x, lease) = lease()?;
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let (a_name, b_name) = (format!("cgt{pid}a{n}"), format!("cgt{pid}b{n}"));
        let a_netns = first.map(|netns| netns.name.clone());
        let (a, b) = (Ipv4Addr::new(10, 200, x, 1), Ipv4Addr::new(10, 200, x, 2));

        ip_in(
            a_netns.as_deref(),
            &["link", "add", &a_name, "type", "veth", "peer", "name", &b_name, "netns", &second.name],
        )?;
        let mut veth = Veth { a, b, a6: None, b6: None, a_name, a_netns, _lease: lease };
        let ends = [(veth.a_netns.clone(), veth.a_name.clone(), a), (Some(second.name.clone()), b_name, b)];
        for (netns, link, address) in &ends {
            ip_in(netns.as_deref(), &["address", "add", &format!("{address}/24"), "dev", link])?;
            ip_in(netns.as_deref(), &["link", "set", link, "up"])?;
        }
        let v6 = |host: u16| Ipv6Addr::new(0xfd00, 0x200, u16::from(x), 0, 0, 0, 0, host);
        let added = ends.iter().zip([v6(1), v6(2)]).all(|((netns, link, _), address)| {
            ip_in(netns.as_deref(), &["address", "add", &format!("{address}/64"), "dev", link, "nodad"]).is_ok()
        });
        if added {
            (veth.a6, veth.b6) = (Some(v6(1)), Some(v6(2)));
        }
        Ok(veth)
    }

    /// Every address of the second end, v4 first.
    pub fn b_addresses(&self) -> Vec<IpAddr> {
        std::iter::once(IpAddr::V4(self.b)).chain(self.b6.map(IpAddr::V6)).collect()
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        // Gone already when one of its namespaces was deleted first.
        let _ = ip_in(self.a_netns.as_deref(), &["link", "delete", &self.a_name]);
    }
}

/// Runs `ip` with these words.
///
/// # Errors
/// With what `ip` said on stderr.
pub fn ip(words: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(words).output().context("run ip (package iproute2)")?;
    ensure!(output.status.success(), "`ip {}`: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Deletes the namespaces of test processes that are gone.
pub(crate) fn sweep() -> Result<Vec<String>> {
    let Ok(entries) = std::fs::read_dir(NETNS_DIR) else { return Ok(Vec::new()) };
    let mut removed = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if crate::tidy::is_orphan(&name, "cgt-") {
            ip(&["netns", "delete", &name])?;
            removed.push(format!("network namespace {name}"));
        }
    }
    Ok(removed)
}

fn ip_in(netns: Option<&str>, words: &[&str]) -> Result<String> {
    match netns {
        Some(netns) => ip(&[&["-n", netns], words].concat()),
        None => ip(words),
    }
}

/// A free X of 10.200.X.0/24 and the lock that keeps it.
fn lease() -> Result<(u8, File)> {
    std::fs::create_dir_all(LEASES).with_context(|| format!("create {LEASES}"))?;
    for x in 1..=250 {
        let path = Path::new(LEASES).join(format!("network-{x}"));
        let file = File::options().create(true).append(true).open(&path)?;
        if file.try_lock().is_ok() {
            return Ok((x, file));
        }
    }
    bail!("no free network in 10.200.0.0/16: 250 are in use")
}
