//! Packet sockets: the canaries' ear, and frames sent past every layer.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd as _;

use socket2::{SockAddr, Socket};

/// Gives the calling thread a table of descriptors of its own, for good: what it opens no other thread's child inherits.
///
/// # Errors
/// The kernel's.
pub fn own_table() -> io::Result<()> {
    // SAFETY: takes a flag alone; descriptors of other threads stay open in theirs.
    match unsafe { libc::unshare(libc::CLONE_FILES) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// All protocols. Source: uapi/linux/if_ether.h.
pub const ALL: u16 = 0x0003;
const OUTGOING: u8 = 4;
const PACKET_TX_RING: i32 = 13;
const BLOCK: usize = 4096;
const SEND_REQUEST: u32 = 1;

/// The address of a link: frames of `protocol`, to everybody on it.
pub fn link(protocol: u16, index: u32) -> io::Result<SockAddr> {
    let mut bytes = [0_u8; 20];
    bytes[..2].copy_from_slice(&(libc::AF_PACKET as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&protocol.to_be_bytes());
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[11] = 6;
    bytes[12..18].fill(0xff);
    super::address(&bytes)
}

/// Opens an ear on the link `index` of the calling thread's network namespace.
pub fn ear(index: u32) -> io::Result<Socket> {
    let ear = super::socket(libc::AF_PACKET, libc::SOCK_RAW, ALL.to_be().into())?;
    // Everything that a burst of load leaves must fit until it is read.
    ear.set_recv_buffer_size(32 << 20)?;
    ear.bind(&link(ALL, index)?)?;
    Ok(ear)
}

/// The next frame that came in from outside; those that leave are skipped.
pub fn hear(ear: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: bytes may be viewed as maybe-uninitialised ones; the kernel only writes initialised ones.
        let view = unsafe { &mut *(std::ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) };
        let (length, from) = ear.recv_from(view)?;
        // SAFETY: the kernel wrote a link address of twenty bytes into storage that is larger.
        let kind = unsafe { *from.as_ptr().cast::<u8>().add(10) };
        if kind != OUTGOING {
            return Ok(length);
        }
    }
}

/// Sends one frame through a ring that is shared with the kernel, which no `send` call carries.
pub fn send_mapped(socket: &Socket, frame: &[u8]) -> io::Result<()> {
    // struct tpacket_req: block size, blocks, frame size, frames.
    let request: Vec<u8> = [BLOCK as u32, 1, 2048, 2].iter().flat_map(|number| number.to_ne_bytes()).collect();
    super::option(socket, libc::SOL_PACKET, PACKET_TX_RING, &request)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping of the ring's size; never unmapped, as the program ends after one attempt.
    let ring = unsafe { libc::mmap(std::ptr::null_mut(), BLOCK, access, libc::MAP_SHARED, socket.as_raw_fd(), 0) };
    if ring == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // struct tpacket_hdr: status (a long), length, snaplen, …; the frame stands behind it, at 32 bytes.
    let ring = ring.cast::<u8>();
    // SAFETY: the first frame of the ring has 2048 bytes, and ours is shorter.
    unsafe {
        std::ptr::copy_nonoverlapping(frame.as_ptr(), ring.add(32), frame.len());
        ring.add(8).cast::<u32>().write(frame.len() as u32);
        ring.cast::<u64>().write_volatile(SEND_REQUEST.into());
    }
    socket.send_with_flags(&[], 0).map(drop)
}
