//! The recorder: what the rest of the agent writes audit with.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use callgate_model::{CallBegin, RecordKind, StreamId};
use callgate_proto::encode_unstamped;
use prometheus_client::registry::Registry;

use crate::spool::commit::Committer;
use crate::spool::disk::Faults;
use crate::spool::recover;
use crate::spool::shared::Shared;
use crate::spool::writer::Health;
use crate::{AuditError, Metrics, OpenCall, Recovery, SpoolReader};

/// Where the spool is and how large it may become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpoolConfig {
    /// Its directory, made if absent, mode 0700. One process at a time.
    pub dir: PathBuf,
    /// The hash chain that it holds.
    pub stream: StreamId,
    /// Bound on all segments together; at it new calls are refused. Unit: bytes.
    pub max_bytes: u64,
    /// Size at which a segment is closed; at most an eighth of `max_bytes` is used. Unit: bytes.
    pub segment_bytes: u64,
    /// How long a group gathers before it is brought to disk. 2 to 5 ms by requirement A2.
    pub commit_interval: Duration,
}

impl SpoolConfig {
    /// Default of [`SpoolConfig::max_bytes`]: 1 GiB, some million calls without bodies. Unit: bytes.
    pub const MAX_BYTES: u64 = 1 << 30;
    /// Default of [`SpoolConfig::segment_bytes`]: 64 MiB. Unit: bytes.
    pub const SEGMENT_BYTES: u64 = 64 << 20;
    /// Default of [`SpoolConfig::commit_interval`].
    pub const COMMIT_INTERVAL: Duration = Duration::from_millis(4);

    /// The defaults.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, stream: StreamId) -> Self {
        Self {
            dir: dir.into(),
            stream,
            max_bytes: Self::MAX_BYTES,
            segment_bytes: Self::SEGMENT_BYTES,
            commit_interval: Self::COMMIT_INTERVAL,
        }
    }
}

/// How the spool is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpoolStatus {
    /// Last record sealed.
    pub last_seq: u64,
    /// Last record on disk.
    pub durable_seq: u64,
    /// Last record that the collector has.
    pub acked_seq: u64,
    /// Size. Unit: bytes.
    pub bytes: u64,
    /// Bound. Unit: bytes.
    pub max_bytes: u64,
    /// Whether the disk is full.
    pub disk_full: bool,
    /// Why it failed, if it did: it refuses until the agent is restarted.
    pub failed: Option<Arc<str>>,
}

/// Writes records to one spool. Clones share it; the last one to go brings everything to disk.
#[derive(Clone, Debug)]
pub struct Recorder {
    pub(crate) inner: Arc<Inner>,
}

/// Owns the commit thread.
#[derive(Debug)]
pub(crate) struct Inner {
    pub shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held for its lock, not for its content.
    lock: File,
}

impl Recorder {
    /// Opens the spool, or makes it: checks the chain, cuts a torn tail, closes calls that a crash left open.
    ///
    /// Blocks: it reads all that is held.
    ///
    /// # Errors
    /// [`AuditError::Locked`] if another process has it, [`AuditError::WrongStream`] if it holds another stream,
    /// [`AuditError::Corrupt`] if something is missing or changed that no crash explains, [`AuditError::Io`].
    pub fn open(config: SpoolConfig) -> Result<(Self, Recovery), AuditError> {
        Self::open_with(config, Faults::default())
    }

    pub(crate) fn open_with(config: SpoolConfig, faults: Faults) -> Result<(Self, Recovery), AuditError> {
        let (writer, recovery, lock) = recover::open(&config, faults, Metrics::default())?;
        let shared = Arc::new(Shared::new(writer));
        let committer = Committer::new(shared.clone(), config.commit_interval);
        let thread = std::thread::Builder::new()
            .name("callgate-audit".into())
            .spawn(move || committer.run())
            .map_err(AuditError::io("start the commit thread of", &config.dir))?;
        Ok((Self { inner: Arc::new(Inner { shared, thread: Mutex::new(Some(thread)), lock }) }, recovery))
    }

    /// Records that a call begins. On return the record has been given to the kernel: it survives the death of this
    /// process. Blocks for a lock and one write to the page cache.
    ///
    /// Dropping the guard without [`OpenCall::end`] records the call as cut off.
    ///
    /// # Errors
    /// [`AuditError::Full`], [`AuditError::DiskFull`], [`AuditError::Failed`] or [`AuditError::TooLarge`]: nothing was
    /// recorded and the call must be refused with [`AuditError::reason`].
    pub fn begin(&self, begin: CallBegin) -> Result<OpenCall, AuditError> {
        let call = begin.call;
        let depth = begin.decision.obligations.record;
        let mut body = Vec::with_capacity(1024);
        encode_unstamped(RecordKind::Begin(Box::new(begin)), &mut body);
        let seq = self.inner.shared.append(|writer| writer.begin(call, &mut body))?;
        Ok(OpenCall::new(self.clone(), call, seq, depth, body))
    }

    /// Records anything but the records of a call, which [`Recorder::begin`] and its guard write. On disk with the
    /// next group commit.
    ///
    /// # Errors
    /// As [`Recorder::begin`]; nothing was recorded.
    pub fn write(&self, kind: RecordKind) -> Result<(), AuditError> {
        debug_assert!(
            !matches!(kind, RecordKind::Begin(_) | RecordKind::Chunk(_) | RecordKind::End(_)),
            "records of a call are written by its guard"
        );
        let mut body = Vec::with_capacity(512);
        encode_unstamped(kind, &mut body);
        self.inner.shared.append(|writer| writer.add(&mut body)).map(drop)
    }

    /// A reader that starts with record `from_seq`: the one after the collector's last.
    #[must_use]
    pub fn reader(&self, from_seq: u64) -> SpoolReader {
        SpoolReader::new(self.inner.shared.clone(), from_seq)
    }

    /// Takes the collector's word that it has everything up to `seq`; whole segments of that are freed soon after.
    ///
    /// # Errors
    /// [`AuditError::NotHeld`] if `seq` was never given to a reader: the collector is wrong, nothing is freed.
    pub fn acknowledge(&self, seq: u64) -> Result<(), AuditError> {
        self.inner.shared.acknowledge(seq)
    }

    /// Blocks until everything recorded so far is on disk.
    ///
    /// # Errors
    /// [`AuditError::DiskFull`] or [`AuditError::Failed`].
    pub fn sync(&self) -> Result<(), AuditError> {
        self.inner.shared.sync()
    }

    /// Waits until record `seq` is on disk: at most the commit interval and one sync, unless the disk is full.
    ///
    /// # Errors
    /// [`AuditError::Failed`] if it never will be.
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn durable(&self, seq: u64) -> Result<(), AuditError> {
        let mut progress = self.inner.shared.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.durable_seq >= seq || progress.over).await;
        if reached.is_ok_and(|progress| progress.durable_seq >= seq) {
            return Ok(());
        }
        let cause = self.status().failed.unwrap_or_else(|| "the spool was closed".into());
        Err(AuditError::Failed { cause })
    }

    /// How the spool is now.
    #[must_use]
    pub fn status(&self) -> SpoolStatus {
        let inside = self.inner.shared.lock();
        let writer = &inside.writer;
        SpoolStatus {
            last_seq: writer.head_seq,
            durable_seq: writer.durable_seq,
            acked_seq: writer.acked_seq,
            bytes: writer.used(),
            max_bytes: writer.max_bytes,
            disk_full: matches!(writer.health(), Health::DiskFull),
            failed: match writer.health() {
                Health::Failed(cause) => Some(cause.clone()),
                _ => None,
            },
        }
    }

    /// The hash chain that is written.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        StreamId(self.inner.shared.stream.clone())
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.shared.metrics
    }

    /// Names the metrics in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics().register(registry);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop();
        let thread = self.thread.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the commit thread of the audit spool panicked");
        }
        // Said, not left to the closing of the file: a child that is just being forked has a copy of it.
        let _ = rustix::fs::flock(&self.lock, rustix::fs::FlockOperation::Unlock);
    }
}
