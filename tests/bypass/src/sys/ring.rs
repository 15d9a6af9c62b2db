//! The least of io_uring: one entry at a time, its result as the system call's twin would give it.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Entries of the ring. One is in use at a time.
const ENTRIES: u32 = 4;
/// Bytes of an entry. Source: `struct io_uring_sqe` (uapi/linux/io_uring.h).
const ENTRY: usize = 64;
const OFFSET_ENTRIES: i64 = 0x1000_0000;
const GET_EVENTS: u32 = 1;

/// Opcodes (uapi/linux/io_uring.h).
pub const SENDMSG: u8 = 9;
/// `recvmsg`'s plain sibling.
pub const RECV: u8 = 27;
/// `connect`.
pub const CONNECT: u8 = 16;
/// `send`, and `sendto` where an address is given.
pub const SEND: u8 = 26;
/// `socket`.
pub const SOCKET: u8 = 45;
/// Zero-copy `send`.
pub const SEND_ZC: u8 = 47;

/// A ring.
pub struct Ring {
    descriptor: OwnedFd,
    rings: *mut u8,
    entries: *mut u8,
    at: Offsets,
}

#[derive(Clone, Copy)]
struct Offsets {
    submit_tail: usize,
    submit_mask: usize,
    submit_array: usize,
    done_head: usize,
    done_tail: usize,
    done_mask: usize,
    done: usize,
}

/// What is asked for: the fields of an entry that we use.
#[derive(Default)]
pub struct Entry {
    /// What to do.
    pub opcode: u8,
    /// On which descriptor; of SOCKET, the family.
    pub fd: i32,
    /// A second address or number; of CONNECT the length, of SOCKET the type, of SEND the address.
    pub offset: u64,
    /// Where the data is.
    pub address: u64,
    /// How much of it; of SOCKET, the protocol.
    pub length: u32,
    /// Flags of the call.
    pub flags: u32,
    /// Length of the address, in its high half; of SEND alone.
    pub address_length: u16,
}

impl Ring {
    /// Sets one up.
    pub fn new() -> io::Result<Ring> {
        let mut parameters = [0_u32; 30];
        // SAFETY: the kernel fills the 120 bytes of its parameters.
        let made = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, parameters.as_mut_ptr()) };
        let descriptor = RawFd::try_from(super::checked(made)?).map_err(io::Error::other)?;
        // SAFETY: the kernel just gave it to us.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        // Offsets stand behind ten words: of submission head, tail, mask, entries, flags, dropped, array (and three
        // more), then of completion head, tail, mask, entries, overflow, cqes.
        let word = |index: usize| parameters[index] as usize;
        let at = Offsets {
            submit_tail: word(11),
            submit_mask: word(12),
            submit_array: word(16),
            done_head: word(20),
            done_tail: word(21),
            done_mask: word(22),
            done: word(25),
        };
        let size = (at.done + 16 * 2 * ENTRIES as usize).max(at.submit_array + 4 * ENTRIES as usize);
        Ok(Ring {
            rings: map(&descriptor, size, 0)?,
            entries: map(&descriptor, ENTRY * ENTRIES as usize, OFFSET_ENTRIES)?,
            descriptor,
            at,
        })
    }

    /// Hands one entry in, waits, and gives its result. What the entry points to must live until then.
    pub fn run(&mut self, entry: &Entry) -> io::Result<i32> {
        let tail = self.word(self.at.submit_tail);
        let index = tail.load(Ordering::Acquire) & self.word(self.at.submit_mask).load(Ordering::Relaxed);
        let mut bytes = [0_u8; ENTRY];
        bytes[0] = entry.opcode;
        bytes[4..8].copy_from_slice(&entry.fd.to_ne_bytes());
        bytes[8..16].copy_from_slice(&entry.offset.to_ne_bytes());
        bytes[16..24].copy_from_slice(&entry.address.to_ne_bytes());
        bytes[24..28].copy_from_slice(&entry.length.to_ne_bytes());
        bytes[28..32].copy_from_slice(&entry.flags.to_ne_bytes());
        bytes[44..46].copy_from_slice(&entry.address_length.to_ne_bytes());
        // SAFETY: the index is masked, so the entry lies within what was mapped.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.entries.add(index as usize * ENTRY), ENTRY) };
        self.word(self.at.submit_array + 4 * index as usize).store(index, Ordering::Relaxed);
        tail.store(tail.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        // SAFETY: numbers alone; the entry's own pointers are the caller's promise.
        let entered = unsafe {
            libc::syscall(libc::SYS_io_uring_enter, self.descriptor.as_raw_fd(), 1, 1, GET_EVENTS, 0_usize, 0_usize)
        };
        super::checked(entered)?;
        let head = self.word(self.at.done_head);
        let now = head.load(Ordering::Acquire);
        if now == self.word(self.at.done_tail).load(Ordering::Acquire) {
            return Err(io::Error::other("io_uring gave no answer"));
        }
        let mask = self.word(self.at.done_mask).load(Ordering::Relaxed);
        let result = self.word(self.at.done + 16 * (now & mask) as usize + 8).load(Ordering::Relaxed) as i32;
        head.store(now.wrapping_add(1), Ordering::Release);
        if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: offsets are the kernel's own, aligned, and within what was mapped for as long as the ring lives.
        unsafe { &*self.rings.add(offset).cast::<AtomicU32>() }
    }
}

fn map(descriptor: &OwnedFd, size: usize, offset: i64) -> io::Result<*mut u8> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
    // SAFETY: a fresh mapping that is never unmapped: the program ends after one attempt.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), size, access, kind, descriptor.as_raw_fd(), offset) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(mapped.cast()) }
}
