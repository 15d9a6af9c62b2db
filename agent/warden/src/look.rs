//! The thread that looks: each second at the hands of all enrolled tasks, and at once after the kernel told of an arrival.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use callgate_model::KernelDenial;
use libbpf_rs::{MapCore as _, RingBufferBuilder};
use tokio::sync::mpsc::Sender;
use tracing::{debug, error};

use crate::kernel::{self, Event, KIND_ARRIVAL, KIND_FAMILY};
use crate::sockets::Sockets;
use crate::{Answer, Older, Swept, WardenError, parts, told};

/// How often all hands are looked at, whatever the kernel told.
const EACH: Duration = Duration::from_secs(1);

/// How long the thread may sleep before it sees that it is to end.
const NAP: Duration = Duration::from_millis(100);

/// From one look that was asked for to the next: bounds what a workload that asks all the time can cost. It also bounds
/// how long a socket that is handed in within that time works.
const PAUSE: Duration = Duration::from_millis(2);

/// Sees and destroys sockets; shared by the thread and by who enrols.
#[derive(Debug)]
pub struct Eyes {
    pub sockets: Sockets,
    pub older: Older,
    pub netlink: Answer,
    known: Mutex<HashSet<u64>>,
}

impl Eyes {
    pub fn new(sockets: Sockets, older: Older, netlink: Answer) -> Self {
        Self { sockets, older, netlink, known: Mutex::default() }
    }

    /// Cookies of what was found and left by the last look.
    pub fn known(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nice value of the thread, and of those that it starts: before all others of usual scheduling.
const FIRST: i32 = -20;

/// What the thread works with.
pub struct Look {
    pub pins: PathBuf,
    /// None: it only passes events on.
    pub eyes: Option<Arc<Eyes>>,
    pub events: Sender<KernelDenial>,
    pub lost: Arc<AtomicU64>,
    pub stop: Arc<AtomicBool>,
}

impl Look {
    /// Until it is told to stop.
    pub fn run(self) {
        // A workload that keeps the processor busy must not make its own sockets live longer. Without the right to it,
        // they may.
        let _refused = rustix::process::setpriority_process(Some(rustix::thread::gettid()), FIRST);
        if let Err(error) = self.watch() {
            error!(%error, "the warden looks no more: sockets that are handed in are not found");
        }
    }

    fn watch(&self) -> Result<(), WardenError> {
        let failed = |source| WardenError::Map { map: "WARDEN_EVENTS", source };
        let ring = parts::map(&self.pins, "WARDEN_EVENTS")?;
        // Only where arrivals are told.
        let stirred = parts::map(&self.pins, "STIRRED").ok();
        // An agent that died between hearing of an arrival and looking left its mark: nothing would be told any more.
        for (map, pid) in stirred.iter().flat_map(|map| map.keys().map(move |pid| (map, pid))) {
            let _absent = map.delete(&pid);
        }
        let (told, inbox) = mpsc::channel::<Event>();
        let mut builder = RingBufferBuilder::new();
        let receive = move |bytes: &[u8]| {
            // Nobody listens any more when the thread ends.
            let _ended = kernel::read(bytes).map(|event| told.send(event));
            0
        };
        builder.add(&ring, receive).map_err(failed)?;
        let ring = builder.build().map_err(failed)?;
        let mut last = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            // Interrupted by a signal, at worst: then there is nothing yet.
            let _interrupted = ring.poll(NAP.min(EACH.saturating_sub(last.elapsed())));
            let (mut arrivals, mut all) = (BTreeSet::new(), false);
            for event in inbox.try_iter() {
                self.pass_on(told::of_event(&event));
                if event.kind == KIND_ARRIVAL {
                    arrivals.insert(event.pid);
                }
                // Another process may share the descriptors of the one that was ended.
                all |= event.kind == KIND_FAMILY;
            }
            for pid in &arrivals {
                // Before the look: what arrives from now on is told anew.
                let _absent = stirred.as_ref().map(|map| map.delete(&pid.to_ne_bytes()));
            }
            all |= last.elapsed() >= EACH;
            if all {
                last = Instant::now();
            }
            let Some(eyes) = &self.eyes else { continue };
            if all {
                self.tell(eyes.sweep(None));
            } else if !arrivals.is_empty() {
                for pid in arrivals {
                    self.tell(eyes.sweep(Some(pid)));
                }
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    fn tell(&self, swept: Result<Swept, WardenError>) {
        match swept {
            Ok(Swept { destroyed, ended, uncovered }) => {
                destroyed.into_iter().chain(ended).chain(uncovered).for_each(|found| self.pass_on(Some(found)));
            }
            Err(error) => error!(%error, "the hands of enrolled tasks could not be looked at"),
        }
    }

    fn pass_on(&self, denial: Option<KernelDenial>) {
        let Some(denial) = denial else { return };
        debug!(?denial, "the warden");
        if self.events.try_send(denial).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
