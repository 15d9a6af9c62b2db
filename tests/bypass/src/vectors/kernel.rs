//! The kernel's own switches: bpf(2), the pins, keys, and files that make the kernel start programs.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::vector::Way;
use crate::{Order, Said, Vector, sys};

const MAP_DELETE: i64 = 3;
const MAP_UPDATE: i64 = 2;
const PROG_LOAD: i64 = 5;
const OBJ_GET: i64 = 7;
const PROG_GET_NEXT_ID: i64 = 11;
const LINK_GET_FD_BY_ID: i64 = 30;
const LINK_DETACH: i64 = 34;

/// Containers do not see the pins; a service of the host does.
const WITH_PINS: &[Way] = &[Way::User, Way::Root, Way::Bare, Way::Run, Way::RunRoot];

pub const ROWS: &[Vector] = &[
    Vector::new("bpf_load", "bpf(): loads a program", load).judges_itself(),
    Vector::new("bpf_list", "bpf(): lists programs", list).judges_itself(),
    Vector::new("bpf_link_by_id", "bpf(): takes a link by its number", link_by_id).judges_itself(),
    Vector::new("bpf_open_link", "opens a pinned link and detaches it", detach).judges_itself().fresh().by(WITH_PINS),
    Vector::new("bpf_write_map", "opens the pinned map of enrolments and deletes its own", unmap)
        .judges_itself()
        .fresh()
        .by(WITH_PINS),
    Vector::new("bpf_write_heartbeat", "opens the pinned heartbeat and beats itself", beat)
        .judges_itself()
        .fresh()
        .by(WITH_PINS),
    Vector::new("unlink_pins", "removes the pins of its links", unlink).judges_itself().fresh().by(WITH_PINS),
    Vector::new("rename_pins", "renames the folder of its links", rename).judges_itself().fresh().by(WITH_PINS),
    Vector::new("unmount_bpffs", "unmounts the file system of the pins", unmount).judges_itself().fresh().by(WITH_PINS),
    Vector::new("request_key", "request_key(): the kernel may start a program outside", key).judges_itself(),
    Vector::new("core_pattern", "opens /proc/sys/kernel/core_pattern for writing", writable)
        .judges_itself()
        .by(WITH_PINS)
        .with(0),
    Vector::new("modprobe", "opens /proc/sys/kernel/modprobe for writing", writable)
        .judges_itself()
        .by(WITH_PINS)
        .with(1),
    Vector::new("perf_event", "perf_event_open() on the whole machine", perf).judges_itself(),
];

fn load(_: &Order, _: i64) -> io::Result<Said> {
    // r0 = 1; exit: a cgroup program (type 8) under the GPL.
    let code: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
    let licence = c"GPL";
    let mut attributes = [0_u8; 128];
    attributes[0..4].copy_from_slice(&8_u32.to_ne_bytes());
    attributes[4..8].copy_from_slice(&2_u32.to_ne_bytes());
    attributes[8..16].copy_from_slice(&(code.as_ptr().addr() as u64).to_ne_bytes());
    attributes[16..24].copy_from_slice(&(licence.as_ptr().addr() as u64).to_ne_bytes());
    sys::owned(sys::bpf(PROG_LOAD, &mut attributes)?)?;
    Ok(Said::Breached("it loaded a program".into()))
}

fn list(_: &Order, _: i64) -> io::Result<Said> {
    sys::bpf(PROG_GET_NEXT_ID, &mut [0_u8; 16])?;
    Ok(Said::Breached("it lists programs".into()))
}

fn link_by_id(_: &Order, _: i64) -> io::Result<Said> {
    let mut denied = None;
    for id in 1..2048_u32 {
        let mut attributes = [0_u8; 16];
        attributes[0..4].copy_from_slice(&id.to_ne_bytes());
        match sys::bpf(LINK_GET_FD_BY_ID, &mut attributes) {
            Ok(link) => {
                sys::owned(link)?;
                return Ok(Said::Breached("it has a link".into()));
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => denied = Some(error),
        }
    }
    Err(denied.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ENOENT)))
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = [0_u8; 24];
    attributes[0..8].copy_from_slice(&(path.as_ptr().addr() as u64).to_ne_bytes());
    sys::owned(sys::bpf(OBJ_GET, &mut attributes)?)
}

fn detach(order: &Order, _: i64) -> io::Result<Said> {
    let link = open(&order.links.join("connect4"))?;
    let mut attributes = [0_u8; 16];
    attributes[0..4].copy_from_slice(&link.as_raw_fd().to_ne_bytes());
    sys::bpf(LINK_DETACH, &mut attributes)?;
    Ok(Said::Breached("it detached a program".into()))
}

/// Attributes of the calls on a map's element: the map, where the key is, where the value is.
fn element(map: &OwnedFd, key: &[u8], value: Option<&[u8]>) -> [u8; 32] {
    let mut attributes = [0_u8; 32];
    attributes[0..4].copy_from_slice(&map.as_raw_fd().to_ne_bytes());
    attributes[8..16].copy_from_slice(&(key.as_ptr().addr() as u64).to_ne_bytes());
    let value = value.map_or(0, |value| value.as_ptr().addr() as u64);
    attributes[16..24].copy_from_slice(&value.to_ne_bytes());
    attributes
}

fn unmap(order: &Order, _: i64) -> io::Result<Said> {
    let map = open(&order.maps.join("ENROLMENTS"))?;
    let key = order.cgroup_id.to_ne_bytes();
    sys::bpf(MAP_DELETE, &mut element(&map, &key, None))?;
    Ok(Said::Breached("it deleted an enrolment".into()))
}

fn beat(order: &Order, _: i64) -> io::Result<Said> {
    let map = open(&order.maps.join("HEARTBEAT"))?;
    // A beat long ago: it makes the kernel refuse, until the agent's next one.
    let (key, value) = (0_u32.to_ne_bytes(), 1_u64.to_ne_bytes());
    sys::bpf(MAP_UPDATE, &mut element(&map, &key, Some(&value)))?;
    Ok(Said::Breached("it wrote the heartbeat".into()))
}

fn unlink(order: &Order, _: i64) -> io::Result<Said> {
    fs::remove_file(order.links.join("egress"))?;
    Ok(Said::Breached("it removed a pin".into()))
}

fn rename(order: &Order, _: i64) -> io::Result<Said> {
    let aside = order.links.with_extension("").with_file_name(format!("aside-{}", order.cgroup_id));
    fs::rename(&order.links, &aside)?;
    fs::rename(&aside, &order.links)?;
    Ok(Said::Breached("it moved the pins".into()))
}

/// Only in a mount namespace of its own: that it may is enough, and the others keep theirs.
fn unmount(order: &Order, _: i64) -> io::Result<Said> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)?;
    let mount = order.maps.ancestors().find(|path| path.parent() == Some(&std::env::temp_dir()));
    rustix::mount::unmount(mount.unwrap_or(&order.maps), rustix::mount::UnmountFlags::DETACH)?;
    Ok(Said::Breached("it unmounted the pins".into()))
}

fn key(order: &Order, _: i64) -> io::Result<Said> {
    sys::request_key(&format!("callgate:{}", order.nonce))?;
    Ok(Said::Breached("somebody outside made a key for it".into()))
}

fn writable(_: &Order, which: i64) -> io::Result<Said> {
    let file = if which == 0 { "/proc/sys/kernel/core_pattern" } else { "/proc/sys/kernel/modprobe" };
    OpenOptions::new().write(true).open(file)?;
    Ok(Said::Breached("it may write it".into()))
}

fn perf(_: &Order, _: i64) -> io::Result<Said> {
    sys::perf_event()?;
    Ok(Said::Breached("it watches every process".into()))
}
