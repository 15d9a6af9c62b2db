//! The workload: takes one command a line, answers one line, `N ok …` or `N errno E`.
#![allow(unsafe_code, reason = "a disconnect, connect() to AF_UNSPEC, has no safe interface")]

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use callgate_harness::client::serve;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Longest wait for anything. A client that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Until stdin ends.
pub fn main() -> ExitCode {
    let mut kept = Vec::new();
    serve(|command| run(command, &mut kept))
}

fn run(command: &[&str], kept: &mut Vec<Socket>) -> io::Result<String> {
    match command {
        ["pid"] => Ok(std::process::id().to_string()),
        ["tcp", to] => tcp(stream(to)?, to),
        // Waits for a moment only.
        ["brief", to] => {
            let socket = stream(to)?;
            socket.connect_timeout(&address(to)?, Duration::from_millis(200))?;
            answer(socket)
        }
        // Connects, sends, and waits for no answer.
        ["reach", to] => reach(stream(to)?, to),
        ["fastopen-reach", to] => {
            let socket = stream(to)?;
            socket.send_to_with_flags(b"x", &address(to)?, libc::MSG_FASTOPEN)?;
            Ok(format!("peer={}", socket.peer_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?))
        }
        ["reach-twice", first, second] => {
            let socket = stream(first)?;
            socket.connect(&address(first)?)?;
            disconnect(&socket)?;
            reach(socket, second)
        }
        ["bound", from, to] => {
            let socket = stream(to)?;
            socket.bind(&address(from)?)?;
            tcp(socket, to)
        }
        ["device", name, to] => {
            let socket = stream(to)?;
            socket.bind_device(Some(name.as_bytes()))?;
            tcp(socket, to)
        }
        ["nonblocking", to] => {
            let socket = stream(to)?;
            socket.set_nonblocking(true)?;
            match socket.connect(&address(to)?) {
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
                done => done?,
            }
            ready(&socket, PollFlags::OUT)?;
            socket.take_error()?.map_or(Ok(()), Err)?;
            socket.set_nonblocking(false)?;
            answer(socket)
        }
        ["fastopen", to] => {
            let socket = stream(to)?;
            socket.send_to_with_flags(b"x", &address(to)?, libc::MSG_FASTOPEN)?;
            answer(socket)
        }
        ["twice", first, second] => {
            let socket = stream(first)?;
            socket.connect(&address(first)?)?;
            disconnect(&socket)?;
            tcp(socket, second)
        }
        // Sends and closes before anybody can have accepted.
        ["forget", to] => {
            let socket = stream(to)?;
            socket.connect(&address(to)?)?;
            socket.send(b"forgotten\n")?;
            Ok(source(&socket)?.to_string())
        }
        ["abort", to] => {
            let socket = stream(to)?;
            socket.connect(&address(to)?)?;
            socket.set_linger(Some(Duration::ZERO))?;
            Ok(source(&socket)?.to_string())
        }
        // Keeps a socket for later commands.
        ["keep", domain, kind] => {
            kept.push(Socket::new(number(domain)?.into(), number(kind)?.into(), None)?);
            Ok(String::new())
        }
        // The same source may be used by several at once, towards different listeners.
        ["hold", from, to] => {
            let socket = stream(to)?;
            socket.set_reuse_address(true)?;
            socket.bind(&address(from)?)?;
            socket.connect(&address(to)?)?;
            kept.push(socket);
            Ok(String::new())
        }
        ["kept-connect", to] => last(kept)?.connect(&address(to)?).map(|()| String::new()),
        ["kept-send"] => last(kept)?.send(b"x").map(|_| String::new()),
        ["socket", domain, kind, protocol] => {
            let protocol = Protocol::from(number(protocol)?);
            Socket::new(number(domain)?.into(), number(kind)?.into(), Some(protocol)).map(|_| String::new())
        }
        ["udp", to] => datagram(to)?.send_to(b"x", &address(to)?).map(|_| String::new()),
        ["udp-connect", to] => datagram(to)?.connect(&address(to)?).map(|()| String::new()),
        // Sends to a resolver and shows what it answers.
        ["dns", how, to] => question(&datagram(to)?, how, to),
        ["dns-bound", from, how, to] => {
            let socket = datagram(to)?;
            socket.bind(&address(from)?)?;
            question(&socket, how, to)
        }
        ["dns-device", name, how, to] => {
            let socket = datagram(to)?;
            socket.bind_device(Some(name.as_bytes()))?;
            // The second time as well, where the first one is refused.
            let first = question(&socket, how, to);
            let second = question(&socket, how, to)?;
            let first = first.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0);
            Ok(format!("first={first} {second}"))
        }
        // Asks, and then sends elsewhere from the same socket.
        ["dns-then", to, other] => {
            let socket = datagram(to)?;
            question(&socket, "unconnected", to)?;
            socket.send_to(b"x", &address(other)?).map(|_| String::new())
        }
        // Asks from a connected socket, and keeps it.
        ["dns-keep", to] => {
            let socket = datagram(to)?;
            socket.connect(&address(to)?)?;
            socket.send(b"question")?;
            let answer = read(socket.try_clone()?)?;
            kept.push(socket);
            Ok(answer)
        }
        ["dns-churn", count, threads, first, second] => {
            churned(number(count)?, number(threads)?, [first, second], |to, n| dns_once(to, n % 2 == 0))
        }
        ["serve"] => {
            let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
            listener.listen(8)?;
            let at = source(&listener)?;
            std::thread::spawn(move || {
                while let Ok((socket, _)) = listener.accept() {
                    let mut stream = TcpStream::from(socket);
                    let _gone = stream.write_all(b"served\n");
                }
            });
            Ok(at.to_string())
        }
        ["move", cgroup] => std::fs::write(format!("{cgroup}/cgroup.procs"), "0").map(|()| String::new()),
        ["churn", count, threads, first, second] => {
            churned(number(count)?, number(threads)?, [first, second], |to, n| once(to, n % 3 == 0))
        }
        // Connects until the file is there; shows how many were answered and how many refused.
        ["hammer", stop, to] => hammer(stop, to),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

fn tcp(socket: Socket, to: &str) -> io::Result<String> {
    socket.connect_timeout(&address(to)?, PATIENCE)?;
    answer(socket)
}

fn reach(socket: Socket, to: &str) -> io::Result<String> {
    socket.connect_timeout(&address(to)?, PATIENCE)?;
    socket.send(b"x")?;
    Ok(format!("peer={}", socket.peer_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?))
}

/// `peer=… source=… said=…`
fn answer(socket: Socket) -> io::Result<String> {
    let peer = socket.peer_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    let from = source(&socket)?;
    Ok(format!("peer={peer} source={from} said={}", read(socket)?))
}

fn read(socket: Socket) -> io::Result<String> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 512];
    let len = (&socket).read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..len]).trim_end().to_owned())
}

/// `from=… peer=… said=…`; a socket that is not connected has no peer.
fn question(socket: &Socket, how: &str, to: &str) -> io::Result<String> {
    if how == "connected" {
        socket.connect(&address(to)?)?;
        socket.send(b"question")?;
    } else {
        socket.send_to(b"question", &address(to)?)?;
    }
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 512];
    let (len, from) = std::net::UdpSocket::from(socket.try_clone()?).recv_from(&mut buffer)?;
    let peer = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
    let peer = peer.map_or_else(|| "none".into(), |peer| peer.to_string());
    Ok(format!("from={from} peer={peer} said={}", String::from_utf8_lossy(&buffer[..len]).trim_end()))
}

fn dns_once(to: &str, connected: bool) -> Result<(), String> {
    let ask = || question(&datagram(to)?, if connected { "connected" } else { "unconnected" }, to);
    match ask() {
        Ok(line) if line.starts_with(&format!("from={to} ")) && line.contains(&format!(" said={to} ")) => Ok(()),
        Ok(line) => Err(format!("asked {to}: {line:?}")),
        Err(error) => Err(format!("{to}: {error}")),
    }
}

fn churned(
    count: i32,
    threads: i32,
    to: [&str; 2],
    once: impl Fn(&str, i32) -> Result<(), String> + Sync,
) -> io::Result<String> {
    let once = &once;
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let wrong = &wrong;
            scope.spawn(move || {
                for n in 0..count / threads {
                    let to = to[((n + thread) % 2) as usize];
                    if let Err(what) = once(to, n) {
                        wrong.lock().unwrap().push(what);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    Ok(format!("{} wrong {:?}", wrong.len(), &wrong[..wrong.len().min(3)]).replace('\n', " "))
}

fn once(to: &str, abort: bool) -> Result<(), String> {
    let check = || -> io::Result<String> {
        let socket = stream(to)?;
        socket.connect(&address(to)?)?;
        if abort {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        read(socket)
    };
    match check() {
        Ok(said) if said.split(' ').next() == Some(to) => Ok(()),
        Ok(said) => Err(format!("dialled {to}, reached {said:?}")),
        Err(error) => Err(format!("{to}: {error}")),
    }
}

fn hammer(stop: &str, to: &str) -> io::Result<String> {
    let (mut answered, mut refused, mut other) = (0, 0, Vec::new());
    while !std::path::Path::new(stop).exists() {
        match stream(to).and_then(|socket| tcp(socket, to)) {
            Ok(_) => answered += 1,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::EHOSTUNREACH)) => refused += 1,
            Err(error) => other.push(error.to_string()),
        }
    }
    Ok(format!("answered={answered} refused={refused} other={} {:?}", other.len(), other.first()))
}

fn stream(to: &str) -> io::Result<Socket> {
    Socket::new(domain(to)?, Type::STREAM, Some(Protocol::TCP))
}

fn datagram(to: &str) -> io::Result<Socket> {
    Socket::new(domain(to)?, Type::DGRAM, Some(Protocol::UDP))
}

fn domain(to: &str) -> io::Result<Domain> {
    Ok(address(to)?.domain())
}

fn address(text: &str) -> io::Result<SockAddr> {
    let parsed: SocketAddr = text.parse().map_err(io::Error::other)?;
    Ok(parsed.into())
}

fn number(text: &str) -> io::Result<i32> {
    text.parse().map_err(io::Error::other)
}

fn source(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn last(kept: &[Socket]) -> io::Result<&Socket> {
    kept.last().ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn ready(socket: &Socket, for_what: PollFlags) -> io::Result<()> {
    let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    match poll(&mut [PollFd::new(socket, for_what)], Some(&timeout))? {
        0 => Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
        _ => Ok(()),
    }
}

fn disconnect(socket: &Socket) -> io::Result<()> {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    // SAFETY: the kernel reads one sockaddr of the length given.
    let done = unsafe {
        libc::connect(socket.as_raw_fd(), &raw const nowhere, size_of::<libc::sockaddr>() as libc::socklen_t)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
