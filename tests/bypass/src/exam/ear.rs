//! The canaries' ear: every frame that comes in over the link, whatever it is; one is one too many.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result};
use callgate_harness::{Netns, eventually};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::sys::packet;

/// How often the thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// Longest wait for our own mark. Source: it takes microseconds; a loaded machine schedules within a second.
const MARKED: Duration = Duration::from_secs(10);
/// Where marks are sent.
const DISCARD: u16 = 9;

/// Hears until it is dropped.
#[derive(Debug)]
pub struct Ear {
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    ended: Arc<AtomicBool>,
    marker: UdpSocket,
    to: SocketAddr,
    marks: u64,
}

impl Ear {
    /// Listens on the link `index` of `far`; marks are sent to `to` there.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn new(far: &Netns, index: u32, to: IpAddr) -> Result<Ear> {
        let (frames, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (heard, end) = (Arc::clone(&frames), Arc::clone(&ended));
        let (opened, open) = mpsc::sync_channel(1);
        let far = far.path();
        std::thread::spawn(move || {
            // In a table of descriptors of its own: between fork and exec a child of the exam that is born in an
            // enrolled cgroup would hold this socket, and rightly be ended for it.
            let made = packet::own_table()
                .map_err(anyhow::Error::from)
                .and_then(|()| callgate_harness::netns::enter(&far, || packet::ear(index)))
                .and_then(|socket| socket.context("a packet socket"))
                .and_then(|socket| socket.set_read_timeout(Some(LOOK)).map(|()| socket).map_err(Into::into));
            let socket = match made {
                Ok(socket) => socket,
                Err(error) => return drop(opened.send(Err(error))),
            };
            if opened.send(Ok(())).is_err() {
                return;
            }
            let mut buffer = vec![0; 70_000];
            while !end.load(Ordering::Relaxed) {
                if let Ok(length) = packet::hear(&socket, &mut buffer) {
                    let frame = buffer.get(..length).unwrap_or_default().to_vec();
                    heard.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
                }
            }
        });
        open.recv().context("the ear's thread")??;
        let marker = UdpSocket::bind("0.0.0.0:0")?;
        Ok(Ear { frames, ended, marker, to: SocketAddr::new(to, DISCARD), marks: 0 })
    }

    /// Forgets what was heard.
    pub fn forget(&self) {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until everything that was sent before this call is heard: a mark of our own follows it on each processor,
    /// since frames are delivered in order on each, but not across them.
    ///
    /// # Errors
    /// When the marks do not arrive.
    pub fn settle(&mut self) -> Result<()> {
        let mine = sched_getaffinity(None)?;
        let mut wanted = BTreeSet::new();
        for processor in (0..CpuSet::MAX_CPU).filter(|processor| mine.is_set(*processor)) {
            let mut one = CpuSet::new();
            one.set(processor);
            sched_setaffinity(None, &one)?;
            self.marks += 1;
            let mark = format!("callgate-bypass-mark-{}.", self.marks);
            self.marker.send_to(mark.as_bytes(), self.to)?;
            wanted.insert(mark);
        }
        sched_setaffinity(None, &mine)?;
        eventually("our own marks at the canaries", MARKED, || {
            let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
            wanted.iter().all(|mark| frames.iter().any(|frame| holds(frame, mark.as_bytes()))).then_some(())
        })
    }

    /// Frames to `address`.
    pub fn frames_to(&self, address: IpAddr) -> usize {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.iter().filter(|frame| destination(frame) == Some(address)).count()
    }

    /// Frames with these words.
    pub fn frames_with(&self, words: &str) -> usize {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        frames.iter().filter(|frame| holds(frame, words.as_bytes())).count()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn holds(frame: &[u8], words: &[u8]) -> bool {
    frame.windows(words.len()).any(|window| window == words)
}

/// Where an ethernet frame's IP packet goes.
fn destination(frame: &[u8]) -> Option<IpAddr> {
    match frame.get(12..14)? {
        [0x08, 0x00] => Some(IpAddr::from(<[u8; 4]>::try_from(frame.get(30..34)?).ok()?)),
        [0x86, 0xdd] => Some(IpAddr::from(<[u8; 16]>::try_from(frame.get(38..54)?).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_where_a_frame_goes() {
        let mut v4 = vec![0; 34];
        v4[12] = 8;
        v4[30..34].copy_from_slice(&[10, 201, 1, 2]);
        assert_eq!(destination(&v4), Some("10.201.1.2".parse().unwrap()));
        let mut v6 = vec![0; 54];
        v6[12..14].copy_from_slice(&[0x86, 0xdd]);
        v6[53] = 1;
        assert_eq!(destination(&v6), Some("::1".parse().unwrap()));
        assert_eq!(destination(&[0; 20]), None);
        assert!(holds(b"xxnoncexx", b"nonce") && !holds(b"xxnoncx", b"nonce"));
    }
}
