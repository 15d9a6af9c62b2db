//! The conductor: reads a question, judges it, answers it from the cache or an upstream, strips and encodes.

use std::sync::Arc;
use std::time::Instant;

use callgate_model::{CgroupId, DnsTransport, Reason};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::budget::{Allowed, Budget};
use crate::cache::Cache;
use crate::forward::forward;
use crate::metrics::{Metrics, word};
use crate::question::{Question, Read, read, shown};
use crate::upstreams::Known;
use crate::{Settings, UnfitSettings, names, reply, strip};

/// Most questions of all workloads together that wait for an answer. Source: ours; each has a socket while it waits.
const OPEN_MAX: usize = 4_096;

/// Answered with "no such name": clients that find them look for a resolver that encrypts, past this one.
/// Source: RFC 9462 §4 (discovery of designated resolvers), Mozilla's canary domain.
const CANARIES: [&[&[u8]]; 2] = [&[b"resolver", b"arpa"], &[b"use-application-dns", b"net"]];

/// Answers the questions of every workload. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    upstreams: Known,
    budget: Arc<Budget>,
    cache: Cache,
    open: Arc<Semaphore>,
    metrics: Metrics,
}

/// Bytes that a workload sent.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its enrolled cgroup, by which limits hold.
    pub workload: CgroupId,
    /// Whether it is only observed: what would be refused is answered, and nothing is taken out.
    pub observed: bool,
    /// How they came.
    pub transport: DnsTransport,
    /// One message.
    pub bytes: &'a [u8],
}

/// What the workload gets, and what is to be recorded of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    /// One message.
    pub bytes: Vec<u8>,
    /// Name asked for, lower case, not masked; empty where none could be read.
    pub name: String,
    /// Type asked for; empty where none could be read.
    pub query_type: String,
    /// Code of the answer.
    pub rcode: String,
    /// Records in the answer.
    pub answers: u32,
    /// Parts taken out of it.
    pub stripped: u32,
    /// [`Reason::Permitted`], or why it was refused.
    pub reason: Reason,
}

impl Resolver {
    /// A resolver.
    ///
    /// # Errors
    /// As [`Settings::check`].
    pub fn new(settings: Settings) -> Result<Self, UnfitSettings> {
        settings.check()?;
        Ok(Self(Arc::new(Inner {
            upstreams: Known::new(settings.upstreams.clone()),
            budget: Budget::new(settings.queries_per_s),
            cache: Cache::new(settings.cache_entries),
            open: Arc::new(Semaphore::new(OPEN_MAX)),
            metrics: Metrics::default(),
            settings,
        })))
    }

    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// Room for one more question; none: too many are open, drop it.
    #[must_use]
    pub fn enter(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.0.open).try_acquire_owned().ok();
        if permit.is_none() {
            self.dropped();
        }
        permit
    }

    /// Waits until no question is open; those that come meanwhile find no room.
    pub async fn idle(&self) {
        let all = u32::try_from(OPEN_MAX).unwrap_or(u32::MAX);
        let _permits = self.0.open.acquire_many(all).await;
    }

    /// Counts what got no answer.
    pub fn dropped(&self) {
        self.0.metrics.dropped();
    }

    /// Answers `asked`; none: it is no question, and gets no answer.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the question.
    pub async fn answer(&self, asked: Asked<'_>) -> Option<Answered> {
        let answered = match read(asked.bytes) {
            Read::Nothing => None,
            Read::Unfit(reply) => self.unfit(&reply, asked),
            Read::Question(question) => self.question(&question, asked).await,
        };
        if answered.is_none() {
            self.dropped();
        }
        answered
    }

    /// The short failure with which a question is answered that was answered well but cannot be recorded.
    #[must_use]
    pub fn failed(bytes: &[u8]) -> Option<Vec<u8>> {
        match read(bytes) {
            Read::Question(question) => reply::empty(&question, ResponseCode::ServFail).to_vec().ok(),
            Read::Unfit(reply) => reply.to_vec().ok(),
            Read::Nothing => None,
        }
    }

    fn unfit(&self, reply: &Message, asked: Asked<'_>) -> Option<Answered> {
        let bytes = reply::encode(reply, None, asked.transport)?;
        let query = reply.queries.first();
        self.0.metrics.answered(reply.metadata.response_code, Reason::DnsQuestion, 0);
        Some(Answered {
            bytes,
            name: query.map(|query| shown(&query.name().to_lowercase())).unwrap_or_default(),
            query_type: query.map(|query| type_word(query.query_type())).unwrap_or_default(),
            rcode: word(reply.metadata.response_code),
            answers: 0,
            stripped: 0,
            reason: Reason::DnsQuestion,
        })
    }

    async fn question(&self, question: &Question, asked: Asked<'_>) -> Option<Answered> {
        let inner = &self.0;
        let (reason, _open) = match inner.budget.ask(asked.workload, Instant::now()) {
            Allowed::No => {
                return self.say(
                    question,
                    asked,
                    reply::empty(question, ResponseCode::Refused),
                    0,
                    Reason::LimitReached,
                );
            }
            Allowed::TooFast(open) => (Reason::LimitReached, open),
            Allowed::Yes(open) if !names::fits(&inner.settings, &question.name) => (Reason::DnsName, open),
            Allowed::Yes(open) => (Reason::Permitted, open),
        };
        if reason != Reason::Permitted && !asked.observed {
            return self.say(question, asked, reply::empty(question, ResponseCode::Refused), 0, reason);
        }
        if !asked.observed && is_canary(&question.name) {
            return self.say(question, asked, reply::empty(question, ResponseCode::NXDomain), 0, reason);
        }
        let mut upstream = match self.look_up(question).await {
            Some(upstream) => upstream,
            None => reply::empty(question, ResponseCode::ServFail),
        };
        let stripped = if asked.observed { 0 } else { strip(&mut upstream) };
        self.say(question, asked, reply::of(question, upstream), stripped, reason)
    }

    async fn look_up(&self, question: &Question) -> Option<Message> {
        let inner = &self.0;
        if let Some(answer) = inner.cache.get(question, Instant::now()) {
            inner.metrics.cached();
            return Some(answer);
        }
        let upstreams = inner.upstreams.now().await;
        let answer = forward(question, &upstreams, inner.settings.timeout).await?;
        inner.cache.put(question, &answer.message, answer.size, Instant::now());
        Some(answer.message)
    }

    fn say(
        &self,
        question: &Question,
        asked: Asked<'_>,
        reply: Message,
        stripped: u32,
        reason: Reason,
    ) -> Option<Answered> {
        let bytes = reply::encode(&reply, Some(question), asked.transport)?;
        self.0.metrics.answered(reply.metadata.response_code, reason, stripped);
        Some(Answered {
            bytes,
            name: question.name(),
            query_type: type_word(question.query_type()),
            rcode: word(reply.metadata.response_code),
            answers: u32::try_from(reply.answers.len()).unwrap_or(u32::MAX),
            stripped,
            reason,
        })
    }
}

/// The type's word; unknown ones as RFC 3597 writes them.
fn type_word(query_type: RecordType) -> String {
    match query_type {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    }
}

/// Whether `name`, in lower case, is one of [`CANARIES`] or below it.
fn is_canary(name: &Name) -> bool {
    let labels: Vec<&[u8]> = name.iter().collect();
    CANARIES.iter().any(|canary| labels.ends_with(canary))
}
