//! The commands of bpf(2) that aya does not offer, and the clock that the programs stamp with.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use aya::Pod;
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type};
use callgate_ebpf_common::{OriginRecord, TupleKey};

/// Most programs that one list of a cgroup can hold. Source: BPF_CGROUP_MAX_PROGS, linux/kernel/bpf/cgroup.c, 6.18.
const ATTACHED_MAX: usize = 64;

/// Takes the record of `key`, so that no two can have it: one step under the bucket's lock.
///
/// A lookup followed by a removal would not do: in between, the element's memory may be given to another connection,
/// and a copy half from the one and half from the other be read.
///
/// # Errors
/// `NotFound` when there is none.
pub fn take_record(map: BorrowedFd<'_>, key: &TupleKey) -> io::Result<OriginRecord> {
    take(map, key)
}

/// Takes the value of `key` out of a hash map, in one step. `K` and `V` are those of the map, whose sizes
/// `maps::check_layout` has compared.
///
/// # Errors
/// `NotFound` when there is none.
pub fn take<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<V> {
    let mut record = MaybeUninit::<V>::uninit();
    let mut attr = empty();
    // SAFETY: every variant of the union is made of integers.
    let element = unsafe { &mut attr.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd().cast_unsigned();
    element.key = std::ptr::from_ref(key).expose_provenance() as u64;
    element.__bindgen_anon_1.value = record.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: the kernel reads the key and writes the value; both live across the call, and their sizes are those of
    // the map.
    unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut attr) }?;
    // SAFETY: the kernel has written the whole value; plain data has no invalid bits.
    Ok(unsafe { record.assume_init() })
}

/// Detaches a pinned link at once. Its pin stays.
///
/// # Errors
/// The kernel's; none when the cgroup is gone already.
pub fn detach_link(pin: &Path) -> io::Result<()> {
    let pin = CString::new(pin.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let mut get = empty();
    get.__bindgen_anon_4.pathname = pin.as_ptr().expose_provenance() as u64;
    // SAFETY: the path lives across the call; the answer is a fresh descriptor.
    let link = unsafe { OwnedFd::from_raw_fd(bpf(bpf_cmd::BPF_OBJ_GET, &mut get)?) };
    let mut detach = empty();
    detach.link_detach.link_fd = link.as_raw_fd().cast_unsigned();
    // SAFETY: no memory but the attributes is looked at.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut detach) }.map(drop)
}

/// Ids of the programs, ours and others', that are attached to one list of a cgroup.
///
/// # Errors
/// The kernel's.
pub fn attached(cgroup: BorrowedFd<'_>, kind: bpf_attach_type) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; ATTACHED_MAX];
    let mut attr = empty();
    attr.query.__bindgen_anon_1.target_fd = cgroup.as_raw_fd().cast_unsigned();
    attr.query.attach_type = kind as u32;
    attr.query.prog_ids = ids.as_mut_ptr().expose_provenance() as u64;
    attr.query.__bindgen_anon_2.prog_cnt = ids.len() as u32;
    // SAFETY: the kernel writes at most as many ids as there is room for, and then how many there are.
    unsafe { bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr) }?;
    // SAFETY: every variant of the union is made of integers.
    let found = unsafe { attr.query.__bindgen_anon_2.prog_cnt } as usize;
    Ok(ids.into_iter().take(found).collect())
}

/// Loads `return 0;` as a program of a kind that is bound to a type of the kernel, and lets it go again.
///
/// # Errors
/// The kernel's.
pub fn load_trivial(kind: bpf_prog_type, attach: bpf_attach_type, btf_id: u32) -> io::Result<()> {
    /// `r0 = 0`, `exit`. Source: Documentation/bpf/standardization/instruction-set.rst.
    static INSTRUCTIONS: [u64; 2] = [0xb7, 0x95];
    static LICENSE: &std::ffi::CStr = c"GPL v2";
    let mut attr = empty();
    // SAFETY: every variant of the union is made of integers.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = kind as u32;
    load.expected_attach_type = attach as u32;
    load.attach_btf_id = btf_id;
    load.insns = INSTRUCTIONS.as_ptr().expose_provenance() as u64;
    load.insn_cnt = 2;
    load.license = LICENSE.as_ptr().expose_provenance() as u64;
    // SAFETY: instructions and license live for ever; the answer is a fresh descriptor.
    drop(unsafe { OwnedFd::from_raw_fd(bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)?) });
    Ok(())
}

/// Attributes of which nothing is set.
fn empty() -> bpf_attr {
    // SAFETY: a union of integers and arrays of integers: all zero is valid.
    unsafe { std::mem::zeroed() }
}

/// bpf(2).
///
/// # Safety
/// Whatever memory `attr` names must be valid for `command`.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<libc::c_int> {
    let (command, attr) = (command as libc::c_long, std::ptr::from_mut(attr));
    // SAFETY: `attr` is whole, and the caller answers for what it names.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<bpf_attr>()) };
    libc::c_int::try_from(done).ok().filter(|done| *done >= 0).ok_or_else(io::Error::last_os_error)
}

/// `CLOCK_MONOTONIC`: what `bpf_ktime_get_ns` reads in the programs.
pub fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or_default())
}
