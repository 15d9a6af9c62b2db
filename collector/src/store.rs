//! The embedded store: SQLite, one file per day, full-text index.
//!
//! [`Store::ingest`] takes sealed records, checks each against its chain and returns when they are on disk.
//! Several processes may use one directory at once: writers take turns (the write lock of `index.db`), readers never
//! wait for them. The tables are in [`schema`], what is derived from a record in [`row`] and [`text`].

mod day;
mod day_file;
mod filter;
mod index;
mod ingest;
#[cfg(test)]
mod rate;
mod row;
mod schema;
mod search;
mod sessions;
mod tail;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod text;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use callgate_model::StreamId;
use callgate_proto::v1::SealedRecord;
use callgate_seal::Hash;
use rusqlite::Connection;
use tokio::sync::watch;

use crate::StoreError;
use crate::error::At as _;
pub use day::Day;
pub use filter::{Filter, Kind};
pub use ingest::Ingested;
use ingest::Writer;
pub use search::{PAGE_MAX, Page, Search};
pub use sessions::{SessionSearch, SessionSummary, SessionsPage};
pub use tail::Tail;
pub use verify::{Report, StreamFault, StreamReport};

/// A directory of records. Cheap to clone; clones share one writer.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// None until the first write, and after a failed one: the connections are dropped, and with them what was begun.
    writer: Mutex<Option<Writer>>,
    /// Counts batches written by this process, for those who wait for news.
    news: watch::Sender<u64>,
}

/// Last record of a stream that is stored durably.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Its place in the chain.
    pub seq: u64,
    /// Its seal.
    pub hash: Hash,
}

impl Store {
    /// Opens the store in `dir` to write and read; makes it if it is absent.
    ///
    /// # Errors
    /// [`StoreError`] if the directory or its index cannot be used.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        schema::create_dir(dir)?;
        let writer = Writer::open(dir)?;
        Ok(Self::of(dir, Some(writer)))
    }

    /// Opens the store in `dir` to read; changes nothing in it.
    ///
    /// # Errors
    /// [`StoreError::Absent`] if there is none.
    pub fn open_to_read(dir: &Path) -> Result<Self, StoreError> {
        match schema::open_to_read(&dir.join(schema::INDEX))? {
            Some(_) => Ok(Self::of(dir, None)),
            None => Err(StoreError::Absent(dir.into())),
        }
    }

    fn of(dir: &Path, writer: Option<Writer>) -> Self {
        let inner = Inner { dir: dir.into(), writer: Mutex::new(writer), news: watch::Sender::new(0) };
        Self { inner: Arc::new(inner) }
    }

    /// Stores a batch of one stream and returns when it is durable: it may be acknowledged then.
    ///
    /// Records that are stored already are skipped. Blocking: milliseconds, more while another process writes.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the batch may be taken for stored then. [`StoreError::is_chain`] tells a batch that
    /// can never be stored from a store that failed.
    pub fn ingest(&self, batch: &[SealedRecord]) -> Result<Ingested, StoreError> {
        let ingested = self.write(|writer| writer.ingest(batch))?;
        if ingested.stored > 0 {
            self.inner.news.send_modify(|batches| *batches += 1);
        }
        Ok(ingested)
    }

    /// The last stored record of a stream, where shipping resumes; none if there is none.
    ///
    /// Takes up what a crash left half done: records of a day file that the index does not know yet.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be used.
    pub fn resume(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        self.write(|writer| writer.resume(stream))
    }

    /// The streams with their heads, by name.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn streams(&self) -> Result<Vec<(StreamId, Head)>, StoreError> {
        let Some(connection) = self.index()? else { return Ok(Vec::new()) };
        index::heads(&connection, &self.inner.dir)
    }

    /// Size of its files. Unit: bytes.
    ///
    /// # Errors
    /// [`StoreError`] if the directory cannot be read.
    pub fn size(&self) -> Result<u64, StoreError> {
        let dir = self.dir();
        let mut bytes = 0;
        for entry in std::fs::read_dir(dir).at(dir)? {
            // A journal may go between the look at the directory and that at the file.
            bytes += entry.at(dir)?.metadata().map_or(0, |file| file.len());
        }
        Ok(bytes)
    }

    /// Where the files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Changes whenever this process has stored a batch.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<u64> {
        self.inner.news.subscribe()
    }

    fn write<T>(&self, act: impl FnOnce(&mut Writer) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // A writer that panicked was taken out before, so a poisoned lock guards nothing half done.
        let mut slot = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writer = match slot.take() {
            Some(writer) => writer,
            None => Writer::open(&self.inner.dir)?,
        };
        let result = act(&mut writer)?;
        *slot = Some(writer);
        Ok(result)
    }

    fn index(&self) -> Result<Option<Connection>, StoreError> {
        schema::open_to_read(&self.inner.dir.join(schema::INDEX))
    }

    fn day(&self, day: Day) -> Result<Option<Connection>, StoreError> {
        schema::open_to_read(&day.file(&self.inner.dir))
    }

    fn days(&self) -> Result<Vec<Day>, StoreError> {
        Day::list(&self.inner.dir)
    }
}
