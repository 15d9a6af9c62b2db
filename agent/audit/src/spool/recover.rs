//! Opens a spool: checks the whole chain, cuts a torn tail, closes the calls that a crash left open.
//!
//! Torn is only the end of the last segment, and only behind what was known to be on disk; anything else that does
//! not fit is damage, and refused: a spool that was tampered with must not be written on as if nothing had been.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use callgate_model::{AgentRecord, AgentState, CallEnd, CallId, Latency, Outcome, Reason, RecordKind, StreamId};
use callgate_proto::{Peek, encode_unstamped, peek};
use callgate_seal::{FIRST_SEQ, Verifier};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::{info, warn};

use super::current::{Current, Segment};
use super::disk::{Disk, Faults};
use super::format::{HEADER_MAX, Header, STREAM_MAX};
use super::scan::{Scan, Step};
use super::state::State;
use super::writer::{Start, Writer};
use crate::{AuditError, Metrics, SpoolConfig};

/// Fewest segments that a full spool has, so that one that is not yet freed takes a small share. Source: 1/8 lost.
const SEGMENTS_MIN: u64 = 8;
/// Highest seq that a segment may begin with: beyond it counting on could wrap around.
/// Source: ours; at a million records a second a chain gets there in 146,000 years.
const FIRST_SEQ_MAX: u64 = 1 << 62;

/// What opening a spool found and did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// Records that were held.
    pub records: u64,
    /// Bytes of a torn tail that were cut off. An alarm record in the chain says so too.
    pub cut_bytes: u64,
    /// Calls that were open and are closed now as interrupted, in the order of their begin.
    pub interrupted: Vec<CallId>,
    /// Last record, those of the recovery included.
    pub last_seq: u64,
    /// Last record that the collector is known to have.
    pub acked_seq: u64,
}

/// Opens the spool at `config.dir`, or makes it. The file is the lock on it: the spool is ours as long as it is open.
pub(crate) fn open(
    config: &SpoolConfig,
    faults: Faults,
    metrics: Metrics,
) -> Result<(Writer, Recovery, File), AuditError> {
    let dir = &config.dir;
    check_name(&config.stream)?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(AuditError::io("make", dir))?;
    let lock = lock(dir)?;
    let dir_handle = File::open(dir).map_err(AuditError::io("open", dir))?;
    let state = State::load(dir)?.unwrap_or_default();
    let mut chain = Chain::read(dir, &config.stream, &state)?;

    let current = match chain.segments.back() {
        Some(last) => {
            let file = OpenOptions::new().read(true).write(true).open(&last.path);
            let disk = Disk::new(file.map_err(AuditError::io("open", &last.path))?, faults.clone());
            if chain.cut_bytes > 0 {
                disk.truncate(last.bytes).map_err(AuditError::io("cut", &last.path))?;
            }
            disk.sync().map_err(AuditError::io("sync", &last.path))?;
            dir_handle.sync_all().map_err(AuditError::io("sync", dir))?;
            Current::new(disk, last.bytes)
        }
        None => {
            let header = Header { first_seq: FIRST_SEQ, prev: chain.verifier.head(), stream: config.stream.0.clone() };
            let made = Current::create(dir, &dir_handle, &header, 0, &faults);
            let (current, segment) = made.map_err(AuditError::io("make a segment in", dir))?;
            chain.segments.push_back(segment);
            current
        }
    };

    let first_seq = chain.segments.front().map_or(FIRST_SEQ, |segment| segment.first_seq);
    let mut writer = Writer::new(Start {
        dir: dir.clone(),
        dir_handle,
        stream: config.stream.0.clone(),
        faults,
        metrics,
        max_bytes: config.max_bytes,
        segment_bytes: config.segment_bytes.min(config.max_bytes / SEGMENTS_MIN),
        segments: chain.segments,
        current,
        head_seq: chain.verifier.last_seq(),
        head: chain.verifier.head(),
        acked_seq: state.acked_seq.max(first_seq - 1),
    });
    let interrupted = close(&mut writer, chain.cut_bytes, chain.open)?;
    let recovery = Recovery {
        records: chain.records,
        cut_bytes: chain.cut_bytes,
        interrupted,
        last_seq: writer.head_seq,
        acked_seq: writer.acked_seq,
    };
    info!(
        stream = %config.stream,
        records = recovery.records,
        cut_bytes = recovery.cut_bytes,
        interrupted = recovery.interrupted.len(),
        last_seq = recovery.last_seq,
        "audit spool opened"
    );
    Ok((writer, recovery, lock))
}

/// Writes what the chain must say of the crash, and brings it to disk.
///
/// On a full disk the records stay pending, and new calls are refused until they are written.
fn close(writer: &mut Writer, cut_bytes: u64, open: HashMap<CallId, u64>) -> Result<Vec<CallId>, AuditError> {
    if cut_bytes > 0 {
        let detail = format!(
            "the audit spool ended in a torn record: {cut_bytes} bytes after record {} cut off",
            writer.head_seq
        );
        warn!(stream = writer.stream, "{detail}");
        let version = env!("CARGO_PKG_VERSION").into();
        put(writer, RecordKind::Agent(AgentRecord { state: AgentState::Alarm, version, detail }));
    }
    let mut calls: Vec<_> = open.into_iter().map(|(call, begin_seq)| (begin_seq, call)).collect();
    calls.sort_unstable();
    let calls: Vec<_> = calls.into_iter().map(|(_, call)| call).collect();
    for &call in &calls {
        put(writer, RecordKind::End(Box::new(interrupted(call))));
    }
    match writer.flush() {
        Ok(()) => {
            let path = || writer.segments.back().map(|segment| segment.path.clone()).unwrap_or_default();
            writer.disk().sync().map_err(|error| AuditError::io("sync", path())(error))?;
        }
        Err(AuditError::DiskFull) => {}
        Err(error) => return Err(error),
    }
    writer.durable_seq = writer.written_seq;
    Ok(calls)
}

fn put(writer: &mut Writer, kind: RecordKind) {
    let mut body = Vec::new();
    encode_unstamped(kind, &mut body);
    writer.put(&mut body);
}

/// The `end` of a call whose agent died: how much had gone either way is not known, and chunks may be missing.
fn interrupted(call: CallId) -> CallEnd {
    CallEnd {
        call,
        outcome: Outcome::Interrupted,
        reason: Reason::Interrupted,
        status: 0,
        headers: Vec::new(),
        request_bytes: 0,
        response_bytes: 0,
        request_sha256: String::new(),
        response_sha256: String::new(),
        cut: true,
        masked: 0,
        latency: Latency::default(),
    }
}

/// What the segments hold.
struct Chain {
    segments: VecDeque<Segment>,
    verifier: Verifier,
    /// Calls without `end`, and the seq of their `begin` (0: it was freed).
    open: HashMap<CallId, u64>,
    records: u64,
    cut_bytes: u64,
}

impl Chain {
    fn read(dir: &Path, stream: &StreamId, state: &State) -> Result<Self, AuditError> {
        let mut chain = Self {
            segments: VecDeque::new(),
            verifier: Verifier::from_start(&stream.0),
            open: state.open.iter().map(|call| (*call, 0)).collect(),
            records: 0,
            cut_bytes: 0,
        };
        // What was known to be on disk: no crash can have taken it away.
        let floor = state.durable_seq.max(state.acked_seq);
        let files = segment_files(dir)?;
        for (index, (first_seq, path)) in files.iter().enumerate() {
            let last = index + 1 == files.len();
            chain.read_segment(*first_seq, path, stream, last.then_some(floor))?;
        }
        if chain.verifier.last_seq() < floor {
            let detail = format!("records {} to {floor} are missing", chain.verifier.last_seq() + 1);
            return Err(AuditError::Corrupt { file: dir.into(), detail });
        }
        Ok(chain)
    }

    /// Reads one segment. With a `floor` it is the last one, and may be torn after that record.
    fn read_segment(
        &mut self,
        first_seq: u64,
        path: &Path,
        stream: &StreamId,
        floor: Option<u64>,
    ) -> Result<(), AuditError> {
        let read = || AuditError::io("read", path);
        let corrupt = |detail: String| AuditError::Corrupt { file: path.into(), detail };
        let file = File::open(path).map_err(read())?;
        let size = file.metadata().map_err(read())?.len();
        let (header, mut scan) = match Scan::open(file).map_err(read())? {
            Ok(opened) => opened,
            // A crash while it was made: its header was not yet on disk, so nothing had been written to it.
            Err(_) if floor.is_some() && size <= HEADER_MAX as u64 => {
                self.cut_bytes += size;
                return fs::remove_file(path).map_err(AuditError::io("remove", path));
            }
            Err(reason) => return Err(corrupt(reason.into())),
        };
        self.check_header(&header, first_seq, path, stream)?;
        let mut bytes = size;
        loop {
            match scan.step().map_err(read())? {
                Step::Entry { seq, hash, body } => {
                    let prev = self.verifier.head();
                    let fault = self.verifier.check(seq, prev.as_bytes(), hash.as_bytes(), body);
                    fault.map_err(|fault| corrupt(fault.to_string()))?;
                    match peek(body).map_err(|error| corrupt(format!("record {seq}: {error}")))? {
                        Peek::Begin(call) => {
                            self.open.insert(call, seq);
                        }
                        Peek::End(call) => {
                            self.open.remove(&call);
                        }
                        Peek::Other => {}
                    }
                    self.records += 1;
                }
                Step::End => break,
                Step::Torn if floor.is_some_and(|floor| self.verifier.last_seq() >= floor) => {
                    bytes = scan.offset();
                    self.cut_bytes += size - bytes;
                    break;
                }
                Step::Torn => {
                    return Err(corrupt(format!("what follows record {} is not a record", self.verifier.last_seq())));
                }
            }
        }
        self.segments.push_back(Segment { first_seq, path: path.into(), bytes });
        Ok(())
    }

    /// Checks that a segment goes on where the one before ended.
    fn check_header(
        &mut self,
        header: &Header,
        first_seq: u64,
        path: &Path,
        stream: &StreamId,
    ) -> Result<(), AuditError> {
        if header.stream != stream.0 {
            return Err(AuditError::WrongStream { expected: stream.0.clone(), found: header.stream.clone() });
        }
        if self.segments.is_empty() && first_seq > FIRST_SEQ {
            // Those before were freed after acknowledgement; the collector holds the link between.
            self.verifier = Verifier::resume(first_seq - 1, header.prev);
        }
        if first_seq > FIRST_SEQ_MAX {
            let detail = format!("no spool ever held record {first_seq}");
            return Err(AuditError::Corrupt { file: path.into(), detail });
        }
        let expected = self.verifier.last_seq() + 1;
        if header.first_seq != first_seq || first_seq != expected || header.prev != self.verifier.head() {
            let detail = format!("the segment does not continue the chain at record {expected}");
            return Err(AuditError::Corrupt { file: path.into(), detail });
        }
        Ok(())
    }
}

fn segment_files(dir: &Path) -> Result<Vec<(u64, PathBuf)>, AuditError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(AuditError::io("list", dir))? {
        let entry = entry.map_err(AuditError::io("list", dir))?;
        if let Some(first_seq) = entry.file_name().to_str().and_then(Header::parse_file_name) {
            files.push((first_seq, entry.path()));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn lock(dir: &Path) -> Result<File, AuditError> {
    let path = dir.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(AuditError::io("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(AuditError::Locked { dir: dir.into() }),
        Err(error) => Err(AuditError::io("lock", path)(io::Error::from(error))),
    }
}

fn check_name(stream: &StreamId) -> Result<(), AuditError> {
    let name = &stream.0;
    let fits = (1..=STREAM_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(()) } else { Err(AuditError::BadStream(name.chars().take(STREAM_MAX).collect())) }
}
