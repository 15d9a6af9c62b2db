//! `socket()` by ways that no library takes: as a 32-bit system call, by socketcall(2), by io_uring.
#![allow(unsafe_code, reason = "these calls have no safe interface")]

use std::io;
use std::ptr;

/// Numbers of 32-bit x86. Source: arch/x86/entry/syscalls/syscall_32.tbl.
const SOCKETCALL: u32 = 102;
const SOCKET: u32 = 359;

/// `socket()` as a 32-bit system call.
pub fn compat_socket([family, kind, protocol]: [u32; 3]) -> io::Result<String> {
    made(compat(SOCKET, family, kind, protocol))
}

/// `socket()` by socketcall(2), which takes the address of its arguments.
pub fn socketcall(triple: [u32; 3]) -> io::Result<String> {
    let (rights, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT);
    // SAFETY: fresh memory; a 32-bit call can only name what lies low.
    let page = unsafe { libc::mmap(ptr::null_mut(), 4096, rights, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page is ours and has room for three words.
    unsafe { page.cast::<[u32; 3]>().write(triple) };
    let address = u32::try_from(page.expose_provenance()).map_err(io::Error::other)?;
    made(compat(SOCKETCALL, 1, address, 0))
}

/// Two sockets that are connected.
pub fn socketpair([family, kind, protocol]: [u32; 3]) -> io::Result<String> {
    let mut pair = [0_i32; 2];
    // SAFETY: the kernel writes two descriptors.
    let result = unsafe { libc::socketpair(family as i32, kind as i32, protocol as i32, pair.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(pair[0].to_string()) }
}

/// `socket()` by a child process that shares this one's descriptors, as vfork() does otherwise; its exit is waited for.
pub fn shared_socket([family, kind, protocol]: [u32; 3]) -> io::Result<String> {
    // SAFETY: with no stack of its own the child goes on with a copy of ours, as after fork(), and leaves by _exit().
    let child = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_FILES | libc::SIGCHLD, 0, 0, 0, 0) };
    match child {
        ..0 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: plain system calls.
            unsafe {
                libc::socket(family as i32, kind as i32, protocol as i32);
                libc::_exit(0)
            }
        }
        child => {
            let mut status = 0;
            // SAFETY: the kernel writes the status.
            unsafe { libc::waitpid(child as i32, &raw mut status, 0) };
            Ok(status.to_string())
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn compat(number: u32, first: u32, second: u32, third: u32) -> i32 {
    let result: u64;
    // SAFETY: the kernel reads the arguments and changes eax alone (and, entered this way, r8 to r11). rbx is kept by
    // hand: the compiler does not lend it.
    unsafe {
        std::arch::asm!(
            "xchg {first:r}, rbx", "int 0x80", "xchg {first:r}, rbx",
            first = inout(reg) u64::from(first) => _,
            inout("rax") u64::from(number) => result,
            in("rcx") u64::from(second), in("rdx") u64::from(third), in("rsi") 0_u64, in("rdi") 0_u64,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result as u32 as i32
}

#[cfg(not(target_arch = "x86_64"))]
fn compat(_: u32, _: u32, _: u32, _: u32) -> i32 {
    -libc::ENOSYS
}

fn made(result: i32) -> io::Result<String> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result.to_string()) }
}

/// Source: uapi/linux/io_uring.h.
const IORING_OP_SOCKET: u8 = 45;
const IORING_OFF_SQES: i64 = 0x1000_0000;
const IORING_OFF_CQ_RING: i64 = 0x0800_0000;
const IORING_ENTER_GETEVENTS: u32 = 1;

/// `struct io_uring_params`: flags, then the two rings' offsets.
#[repr(C)]
#[derive(Default)]
struct Parameters {
    entries: [u32; 2],
    flags: [u32; 8],
    /// head, tail, ring_mask, ring_entries, flags, dropped, array, reserved, address (2).
    submission: [u32; 10],
    /// head, tail, ring_mask, ring_entries, overflow, cqes, flags, reserved, address (2).
    completion: [u32; 10],
}

/// `socket()` by io_uring, which enters no `socket` system call.
pub fn uring_socket([family, kind, protocol]: [u32; 3]) -> io::Result<String> {
    let mut parameters = Parameters::default();
    // SAFETY: the kernel reads and writes the parameters.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut parameters) };
    if ring < 0 {
        return Err(io::Error::last_os_error());
    }
    let map = |offset: i64| {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: fresh memory of the ring.
        let page = unsafe { libc::mmap(ptr::null_mut(), 4096, rights, libc::MAP_SHARED, ring as i32, offset) };
        if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(page.cast::<u8>()) }
    };
    let (submissions, entries, completions) = (map(0)?, map(IORING_OFF_SQES)?, map(IORING_OFF_CQ_RING)?);
    let mut entry = [0_u8; 64];
    entry[0] = IORING_OP_SOCKET;
    // fd: the family; off: the type; len: the protocol.
    entry[4..8].copy_from_slice(&family.to_ne_bytes());
    entry[8..16].copy_from_slice(&u64::from(kind).to_ne_bytes());
    entry[24..28].copy_from_slice(&protocol.to_ne_bytes());
    // SAFETY: the rings are mapped, and the offsets are the kernel's own; nobody else uses them.
    let (done, result) = unsafe {
        entries.cast::<[u8; 64]>().write(entry);
        submissions.add(parameters.submission[6] as usize).cast::<u32>().write_volatile(0);
        submissions.add(parameters.submission[1] as usize).cast::<u32>().write_volatile(1);
        let null = ptr::null::<u8>();
        let done = libc::syscall(libc::SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, null, 0);
        // The second word pair of the first completion is its result.
        (done, completions.add(parameters.completion[5] as usize + 8).cast::<i32>().read_volatile())
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { made(result) }
}
