//! The workload: takes one command a line, answers one line, `N ok …` or `N errno E`. Sockets are kept, by number.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use callgate_harness::client::serve;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{
    AddressFamily, Protocol, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketType, accept, bind, connect, getsockname, listen, recvmsg, send, sendmsg,
    sendto, socket,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::odd_calls;

/// Until stdin ends.
pub fn main() -> ExitCode {
    let mut kept = Vec::new();
    serve(|command| run(command, &mut kept))
}

fn run(command: &[&str], kept: &mut Vec<OwnedFd>) -> io::Result<String> {
    match command {
        ["pid"] => Ok(std::process::id().to_string()),
        // Makes a socket, and connects it.
        [kind @ ("tcp" | "udp"), to] => {
            let made = made(kind, to)?;
            connect(&made, &address(to)?)?;
            send(&made, b"x", SendFlags::NOSIGNAL)?;
            keep(kept, made)
        }
        // Makes a socket for an address, and does nothing with it.
        ["made", kind, to] => keep(kept, made(kind, to)?),
        // The same with a port of its own.
        ["bound", kind, from] => {
            let made = made(kind, from)?;
            bind(&made, &address(from)?)?;
            keep(kept, made)
        }
        // From a port that somebody listens on.
        ["from", from, to] => {
            let made = made("tcp", from)?;
            set_socket_reuseaddr(&made, true)?;
            bind(&made, &address(from)?)?;
            connect(&made, &address(to)?)?;
            send(&made, b"x", SendFlags::NOSIGNAL)?;
            keep(kept, made)
        }
        ["socket", family, kind, protocol] => {
            let family = AddressFamily::from_raw(family.parse().map_err(io::Error::other)?);
            let kind = SocketType::from_raw(kind.parse().map_err(io::Error::other)?);
            let protocol = std::num::NonZeroU32::new(protocol.parse().map_err(io::Error::other)?);
            keep(kept, socket(family, kind, protocol.map(Protocol::from_raw))?)
        }
        ["connect", index, to] => connect(at(kept, index)?, &address(to)?).map(|()| String::new()).map_err(Into::into),
        ["send", index] => Ok(send(at(kept, index)?, b"x", SendFlags::NOSIGNAL).map(|_| String::new())?),
        ["sendto", index, to] => {
            Ok(sendto(at(kept, index)?, b"x", SendFlags::NOSIGNAL, &address(to)?).map(|_| String::new())?)
        }
        ["listen", on] => {
            let made = made("tcp", on)?;
            set_socket_reuseaddr(&made, true)?;
            bind(&made, &address(on)?)?;
            listen(&made, 8)?;
            let on = SocketAddr::try_from(getsockname(&made)?)?;
            keep(kept, made).map(|index| format!("{index} {on}"))
        }
        ["accept", index] => {
            let accepted = accept(at(kept, index)?)?;
            keep(kept, accepted)
        }
        // Hands a socket to whoever connects there.
        ["give", index, path] => {
            let listener = UnixListener::bind(path)?;
            println!("listening {path}");
            let (stream, _) = listener.accept()?;
            give(&stream, at(kept, index)?).map(|()| String::new())
        }
        ["receive", path] => keep(kept, receive(path)?),
        // Receives, and sends byte by byte until it cannot: how long, and how many.
        ["hammer", path] => {
            let (received, start) = (receive(path)?, Instant::now());
            hammer(&received, start)
        }
        ["getfd", pid, fd] => {
            let pid = Pid::from_raw(pid.parse().map_err(io::Error::other)?).ok_or(io::ErrorKind::NotFound)?;
            let process = pidfd_open(pid, PidfdFlags::empty())?;
            let fd = fd.parse().map_err(io::Error::other)?;
            let start = Instant::now();
            hammer(&pidfd_getfd(process, fd, PidfdGetfdFlags::empty())?, start)
        }
        ["fd", index] => Ok(at(kept, index)?.as_raw_fd().to_string()),
        ["move", cgroup] => std::fs::write(format!("{cgroup}/cgroup.procs"), "0").map(|()| String::new()),
        ["compat-socket", triple @ ..] => odd_calls::compat_socket(numbers(triple)?),
        ["socketcall", triple @ ..] => odd_calls::socketcall(numbers(triple)?),
        ["uring", triple @ ..] => odd_calls::uring_socket(numbers(triple)?),
        // Made by a child that shares the table of descriptors, and dies of it or not.
        ["shared-socket", triple @ ..] => odd_calls::shared_socket(numbers(triple)?),
        // A pair, whichever family: of those refused none can make one, but asking counts.
        ["socketpair", triple @ ..] => odd_calls::socketpair(numbers(triple)?),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

fn numbers(words: &[&str]) -> io::Result<[u32; 3]> {
    let all: Result<Vec<u32>, _> = words.iter().map(|word| word.parse()).collect();
    all.ok().and_then(|all| all.try_into().ok()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn hammer(socket: &OwnedFd, start: Instant) -> io::Result<String> {
    let mut bytes = 0_u64;
    loop {
        match send(socket, b"x", SendFlags::NOSIGNAL) {
            Ok(_) => bytes += 1,
            Err(errno) => {
                return Ok(format!("us={} bytes={bytes} errno={}", start.elapsed().as_micros(), errno.raw_os_error()));
            }
        }
        if start.elapsed() > Duration::from_secs(10) {
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
    }
}

/// Its number.
fn keep(kept: &mut Vec<OwnedFd>, socket: OwnedFd) -> io::Result<String> {
    kept.push(socket);
    Ok((kept.len() - 1).to_string())
}

fn made(kind: &str, to: &str) -> io::Result<OwnedFd> {
    let family = if address(to)?.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if kind == "tcp" { SocketType::STREAM } else { SocketType::DGRAM };
    Ok(socket(family, kind, None)?)
}

fn give(stream: &UnixStream, socket: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [socket.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(stream, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
    // Until the other one has it.
    (&mut &*stream).read_to_end(&mut Vec::new())?;
    Ok(())
}

fn receive(path: &str) -> io::Result<OwnedFd> {
    let stream = UnixStream::connect(path)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(&stream, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::empty())?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(descriptor) = descriptors.next()
        {
            (&stream).flush()?;
            return Ok(descriptor);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn address(text: &str) -> io::Result<SocketAddr> {
    text.parse().map_err(io::Error::other)
}

fn at<'kept>(kept: &'kept [OwnedFd], index: &str) -> io::Result<&'kept OwnedFd> {
    let index: usize = index.parse().map_err(io::Error::other)?;
    kept.get(index).ok_or_else(|| io::ErrorKind::NotFound.into())
}
