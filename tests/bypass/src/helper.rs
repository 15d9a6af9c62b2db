//! The willing process outside: it dials for others, hands sockets over, and has one worth taking.
//!
//! What only such a process makes possible is `delegated`: no kernel hook on the workload's own calls can see it.

use std::io::{self, BufRead as _, BufReader, IoSlice, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::order::Helper;
use crate::vector::{NOBODY, Way};
use crate::{hostile, sys};

/// Serves until its stdin ends. The first line on stdout is its [`Helper`]; after `keep ADDRESS N` on stdin comes
/// `kept N` with the number of a descriptor that is connected there.
///
/// # Errors
/// When it cannot listen.
pub fn main(way: &str, folder: &Path) -> Result<()> {
    let way: Way = serde_json::from_str(&format!("\"{way}\"")).context("WAY")?;
    let name = format!("callgate-bypass-{}", std::process::id());
    let path = folder.join(format!("{name}.sock"));
    let unix = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))?;
    // Root's helper keeps the mounts of the host: it is no part of the container.
    hostile::become_it(if way.uid() == NOBODY { Way::User } else { Way::Bare })?;
    let abstracted = UnixListener::bind_addr(&UnixAddress::from_abstract_name(&name)?)?;
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let me = Helper { pid: std::process::id(), tcp: tcp.local_addr()?, path, name, connected: None };
    for listener in [unix, abstracted] {
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer_unix(&stream)));
    }
    std::thread::spawn(move || tcp.incoming().flatten().for_each(|stream| answer_tcp(&stream)));
    println!("{}", serde_json::to_string(&me)?);
    let mut kept = None::<TcpStream>;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let Some((to, number)) = line.strip_prefix("keep ").and_then(|rest| rest.split_once(' ')) else { continue };
        drop(kept.take());
        let stream = kept.insert(TcpStream::connect(to.parse::<SocketAddr>()?)?);
        println!("kept {number} {}", stream.as_raw_fd());
    }
    Ok(())
}

/// Connects and says the nonce: what a daemon outside is made to do.
///
/// # Errors
/// When it cannot.
pub fn dial(to: SocketAddr, nonce: &str) -> Result<()> {
    Ok(TcpStream::connect(to)?.write_all(nonce.as_bytes())?)
}

/// `dial ADDRESS NONCE`, `start ADDRESS NONCE` (in a process of its own), or `pass KIND ADDRESS` (hands a socket over).
fn answer_unix(stream: &UnixStream) {
    let Ok(asked) = line(stream) else { return };
    let words: Vec<&str> = asked.split(' ').collect();
    let done = match words.as_slice() {
        ["pass", kind, to] => pass(stream, kind, to),
        _ => serve(&words),
    };
    let mut stream = stream;
    let _gone = writeln!(stream, "{}", if done.is_ok() { "done" } else { "failed" });
}

fn answer_tcp(stream: &TcpStream) {
    let Ok(asked) = line(stream) else { return };
    let done = serve(&asked.split(' ').collect::<Vec<_>>());
    let mut stream = stream;
    let _gone = writeln!(stream, "{}", if done.is_ok() { "done" } else { "failed" });
}

fn line(stream: impl io::Read) -> io::Result<String> {
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text)?;
    Ok(text.trim().to_owned())
}

fn serve(words: &[&str]) -> Result<()> {
    match words {
        ["dial", to, nonce] => dial(to.parse()?, nonce),
        ["start", to, nonce] => {
            let mut child = Command::new(std::env::current_exe()?);
            let status = child.args(["dial", to, nonce]).stdin(Stdio::null()).stderr(Stdio::null()).status()?;
            anyhow::ensure!(status.success(), "{status}");
            Ok(())
        }
        _ => anyhow::bail!("not understood"),
    }
}

fn pass(stream: &UnixStream, kind: &str, to: &str) -> Result<()> {
    let to: SocketAddr = to.parse()?;
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    match kind {
        "tcp-connected" => hand_over(stream, &TcpStream::connect(to)?),
        "tcp" => hand_over(stream, &sys::socket(family, libc::SOCK_STREAM, 0)?),
        "udp-connected" => {
            let socket = sys::socket(family, libc::SOCK_DGRAM, 0)?;
            socket.connect(&to.into())?;
            hand_over(stream, &socket)
        }
        "udp" => hand_over(stream, &UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?),
        _ => anyhow::bail!("not understood"),
    }
}

fn hand_over(stream: &UnixStream, socket: &impl AsFd) -> Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&sockets));
    sendmsg(stream, &[IoSlice::new(b"socket\n")], &mut control, SendFlags::empty())?;
    Ok(())
}
