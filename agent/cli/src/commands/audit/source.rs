//! Where records are read from: the files of a store, or a collector over gRPC. The commands do not know which.

use std::io;
use std::path::PathBuf;

use anyhow::Result;
use callgate_collector::{
    Filter, Following, Head, Kind, Page, Remote, Report, Search, SessionSearch, SessionsPage, Store, StoreError,
    StoredRecord, Tail, TlsFiles,
};
use callgate_model::{CallId, SessionId, StreamId};
use callgate_proto::v1::SealedRecord;
use clap::Args;
use tokio::runtime::Runtime;

use super::rows::Row;

/// How long a follower of files waits between two looks. Unit: milliseconds.
const LOOK_EVERY_MS: u64 = 200;

/// Where to read from.
#[derive(Clone, Debug, Args)]
pub(crate) struct SourceArgs {
    /// Directory of the store
    #[arg(long, value_name = "DIR", default_value = "/var/lib/callgate/store", conflicts_with = "collector")]
    pub store: PathBuf,
    /// Ask a collector instead: `https://HOST:PORT`, `http://127.0.0.1:PORT` or `unix:PATH`
    #[arg(long, value_name = "URL")]
    pub collector: Option<String>,
    #[command(flatten)]
    pub tls: CollectorTlsArgs,
}

/// A reader's certificate, for a collector at `https://…`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CollectorTlsArgs {
    /// CAs that vouch for the collector (PEM), for `https://…`
    #[arg(long = "collector-ca", value_name = "FILE", requires_all = ["cert", "key", "collector"])]
    pub ca: Option<PathBuf>,
    /// Your certificate (PEM)
    #[arg(id = "cert", long = "collector-cert", value_name = "FILE", requires = "ca")]
    pub cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(id = "key", long = "collector-key", value_name = "FILE", requires = "ca")]
    pub key: Option<PathBuf>,
}

impl CollectorTlsArgs {
    fn files(&self) -> Option<TlsFiles> {
        let (Some(ca), Some(cert), Some(key)) = (&self.ca, &self.cert, &self.key) else { return None };
        Some(TlsFiles { ca: ca.clone(), cert: cert.clone(), key: key.clone() })
    }
}

/// An open place to read from.
pub(crate) enum Source {
    Files(Store),
    Collector(Box<Asked>),
}

/// A collector, and the runtime on which it is waited for.
pub(crate) struct Asked {
    remote: Remote,
    runtime: Runtime,
    address: String,
}

/// Records as they come.
pub(crate) enum Follower {
    Files(Box<Tail>, std::collections::VecDeque<SealedRecord>),
    Collector(Box<Following>),
}

impl SourceArgs {
    pub(crate) fn open(&self) -> Result<Source> {
        let Some(address) = &self.collector else {
            let store = Store::open_to_read(&self.store).map_err(|error| {
                let denied =
                    matches!(&error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied);
                let error = anyhow::Error::new(error);
                if denied { error.context("the store belongs to another user: try sudo") } else { error }
            });
            return Ok(Source::Files(store?));
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let remote = runtime.block_on(Remote::connect_with(address, self.tls.files().as_ref()))?;
        Ok(Source::Collector(Box::new(Asked { remote, runtime, address: address.clone() })))
    }
}

impl Source {
    /// What it is, in a sentence.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Files(store) => format!("store `{}`", store.dir().display()),
            Self::Collector(asked) => format!("collector `{}`", asked.address),
        }
    }

    pub(crate) fn search(&mut self, search: &Search) -> Result<Page> {
        match self {
            Self::Files(store) => Ok(store.search(search)?),
            Self::Collector(asked) => Ok(asked.runtime.block_on(asked.remote.search(search))?),
        }
    }

    pub(crate) fn sessions(&mut self, search: &SessionSearch) -> Result<SessionsPage> {
        match self {
            Self::Files(store) => Ok(store.sessions(search)?),
            Self::Collector(asked) => Ok(asked.runtime.block_on(asked.remote.sessions(search))?),
        }
    }

    pub(crate) fn verify(&mut self, stream: Option<&StreamId>, head: Option<Head>) -> Result<Report> {
        match self {
            Self::Files(store) => Ok(store.verify(stream, head)?),
            Self::Collector(asked) => Ok(asked.runtime.block_on(asked.remote.verify(stream, head))?),
        }
    }

    /// All records of a call: begin, chunks, end.
    pub(crate) fn call(&mut self, call: CallId) -> Result<Vec<StoredRecord>> {
        let filter = Filter { call: Some(call), ..Filter::default() };
        let mut records = Vec::new();
        self.each(Search { filter, limit: 1_000, oldest_first: true, ..Search::default() }, |record| {
            records.push(record);
            Ok(())
        })?;
        Ok(records)
    }

    /// Gives all records of a session, in the order of their making; how many there were.
    pub(crate) fn session(&mut self, session: SessionId, take: impl FnMut(StoredRecord) -> Result<()>) -> Result<u64> {
        self.each(Store::session_records(session), take)
    }

    /// The row of a call, of which `record` is known.
    pub(crate) fn row_of(&mut self, call: CallId, record: StoredRecord) -> Result<Option<Row>> {
        let kinds = match Kind::of(&record.record) {
            Kind::Begin => vec![Kind::End],
            Kind::End => vec![Kind::Begin],
            _ => vec![Kind::Begin, Kind::End],
        };
        let filter = Filter { call: Some(call), kinds, ..Filter::default() };
        let page = self.search(&Search { filter, limit: 2, oldest_first: true, ..Search::default() })?;
        let mut records = vec![record];
        for other in &page.records {
            records.push(StoredRecord::open(other)?);
        }
        Ok(Row::of_call(&records))
    }

    /// What it holds, for one who found nothing.
    pub(crate) fn extent(&mut self) -> Result<String> {
        let page = self.search(&Search { limit: 1, ..Search::default() })?;
        let newest = page.records.first().map(StoredRecord::open).transpose()?;
        Ok(super::extent_of(newest.as_ref()))
    }

    /// Follows what is stored from now on.
    pub(crate) fn follow(&mut self, filter: &Filter) -> Result<Follower> {
        match self {
            Self::Files(store) => {
                let (_, tail) = store.tail(filter.clone(), 0)?;
                Ok(Follower::Files(Box::new(tail), std::collections::VecDeque::new()))
            }
            Self::Collector(asked) => {
                Ok(Follower::Collector(Box::new(asked.runtime.block_on(asked.remote.tail(filter, 0))?)))
            }
        }
    }

    /// Waits for the next record; none when the collector has ended.
    pub(crate) fn next(&self, follower: &mut Follower) -> Result<Option<StoredRecord>> {
        let record = match (self, follower) {
            (_, Follower::Files(tail, waiting)) => loop {
                if let Some(record) = waiting.pop_front() {
                    break Some(record);
                }
                let (news, more) = tail.look()?;
                if news.is_empty() && !more {
                    std::thread::sleep(std::time::Duration::from_millis(LOOK_EVERY_MS));
                }
                waiting.extend(news);
            },
            (Self::Collector(asked), Follower::Collector(following)) => asked.runtime.block_on(following.next())?,
            (Self::Files(_), Follower::Collector(_)) => None,
        };
        Ok(record.as_ref().map(StoredRecord::open).transpose()?)
    }

    pub(crate) fn each(&mut self, mut search: Search, mut take: impl FnMut(StoredRecord) -> Result<()>) -> Result<u64> {
        let mut count = 0;
        loop {
            let page = self.search(&search)?;
            for record in &page.records {
                take(StoredRecord::open(record)?)?;
                count += 1;
            }
            if page.cursor.is_empty() {
                return Ok(count);
            }
            search.cursor = page.cursor;
        }
    }
}
