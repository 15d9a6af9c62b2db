//! The other end of the queries: a collector reached over gRPC, with the methods of a [`Store`](crate::Store).

use std::time::Duration;

use callgate_model::{SessionId, StreamId};
use callgate_mtls::{ClientTls, TlsEndpoint, TlsError, TlsFiles};
use callgate_proto::ProtoError;
use callgate_proto::v1::query_client::QueryClient;
use callgate_proto::v1::{self, SealedRecord, TailRequest};
use thiserror::Error;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::{Filter, Head, Page, Report, Search, SessionSearch, SessionsPage, translate};

/// Largest reply taken: a page has at most 2 MiB of bodies and one record. Unit: bytes.
const REPLY_MAX: usize = 16 << 20;
/// Longest wait for a connection with TLS.
const CONNECT: Duration = Duration::from_secs(10);

/// Why a collector gave no answer.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// Not an address of a collector.
    #[error(
        "`{0}` is no address of a collector: expected `https://HOST:PORT`, `http://127.0.0.1:PORT` or `unix:/path`"
    )]
    Address(String),
    /// Plain text over a network.
    #[error("`{0}` is on another host, which takes TLS: use `https://…`, a loopback address or a unix socket")]
    NotLoopback(String),
    /// TLS without certificates.
    #[error(
        "`{0}` takes a reader's certificate: name its files (`--collector-ca`, `--collector-cert`, `--collector-key`)"
    )]
    NoCertificates(String),
    /// Certificates that cannot be used.
    #[error(transparent)]
    Certificates(#[from] TlsError),
    /// It cannot be reached.
    #[error("no collector at `{address}`: {detail}")]
    Unreachable {
        /// Where.
        address: String,
        /// What failed.
        detail: String,
    },
    /// It refused.
    #[error("the collector refused: {0}")]
    Refused(String),
    /// Its answer cannot be read.
    #[error("the collector's answer: {0}")]
    Answer(#[from] ProtoError),
}

/// A collector that is reached over gRPC.
#[derive(Clone, Debug)]
pub struct Remote {
    client: QueryClient<Channel>,
}

impl Remote {
    /// Connects to `https://HOST:PORT` with the certificates in `files`; to other addresses as [`Remote::connect`] does.
    ///
    /// # Errors
    /// [`RemoteError`] if that is no such address, the files cannot be used, or nobody answers there.
    pub async fn connect_with(address: &str, files: Option<&TlsFiles>) -> Result<Self, RemoteError> {
        if !address.starts_with("https://") {
            return Self::connect(address).await;
        }
        let at: TlsEndpoint = address.parse().map_err(|_| RemoteError::Address(address.into()))?;
        let files = files.ok_or_else(|| RemoteError::NoCertificates(address.into()))?;
        // Read once: a command is over before its certificates change.
        let tls = ClientTls::open(files, Duration::MAX)?;
        let endpoint = Endpoint::from_static("http://collector").connect_timeout(CONNECT);
        let channel = endpoint.connect_with_connector(tls.connector(&at)).await;
        let channel = channel
            .map_err(|error| RemoteError::Unreachable { address: address.into(), detail: root_cause(&error) })?;
        Ok(Self { client: QueryClient::new(channel).max_decoding_message_size(REPLY_MAX) })
    }

    /// Connects to `http://LOOPBACK:PORT` or `unix:PATH`.
    ///
    /// # Errors
    /// [`RemoteError`] if that is no such address, or nobody answers there.
    pub async fn connect(address: &str) -> Result<Self, RemoteError> {
        let malformed = || RemoteError::Address(address.into());
        if address.starts_with("https://") {
            return Err(RemoteError::NoCertificates(address.into()));
        }
        let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| malformed())?;
        if !address.starts_with("unix:") {
            let host = endpoint.uri().host().ok_or_else(malformed)?;
            let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
            if endpoint.uri().scheme_str() != Some("http") {
                return Err(malformed());
            }
            if host != "localhost" && !ip.is_ok_and(|ip| ip.to_canonical().is_loopback()) {
                return Err(RemoteError::NotLoopback(address.into()));
            }
        }
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| RemoteError::Unreachable { address: address.into(), detail: root_cause(&error) })?;
        Ok(Self { client: QueryClient::new(channel).max_decoding_message_size(REPLY_MAX) })
    }

    /// Finds records: one page.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn search(&mut self, search: &Search) -> Result<Page, RemoteError> {
        let reply = self.client.search(translate::search_to(search)).await?.into_inner();
        Ok(Page { records: reply.records, cursor: reply.cursor })
    }

    /// Follows what is stored; first the latest `backlog` matching records.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn tail(&mut self, filter: &Filter, backlog: usize) -> Result<Following, RemoteError> {
        let backlog = u32::try_from(backlog).unwrap_or(u32::MAX);
        let request = TailRequest { filter: Some(translate::filter_to(filter)), backlog };
        Ok(Following(self.client.tail(request).await?.into_inner()))
    }

    /// Lists sessions: one page.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn sessions(&mut self, search: &SessionSearch) -> Result<SessionsPage, RemoteError> {
        let reply = self.client.sessions(translate::session_search_to(search)).await?.into_inner();
        let sessions = reply.sessions.into_iter().map(translate::summary_from).collect::<Result<_, _>>()?;
        Ok(SessionsPage { sessions, cursor: reply.cursor })
    }

    /// All records of a session in the order of their making; none if there is no such session.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn session(&mut self, session: SessionId) -> Result<Option<Following>, RemoteError> {
        let request = v1::SessionRequest { session: session.0.into_bytes().to_vec() };
        match self.client.session(request).await {
            Ok(records) => Ok(Some(Following(records.into_inner()))),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// Checks one chain, or all.
    ///
    /// # Errors
    /// [`RemoteError`]; a fault of a chain is no error.
    pub async fn verify(&mut self, stream: Option<&StreamId>, head: Option<Head>) -> Result<Report, RemoteError> {
        let request = v1::VerifyRequest {
            stream: stream.map(|stream| stream.0.clone()),
            head_seq: head.map(|head| head.seq),
            head_hash: head.map(|head| head.hash.to_vec()),
        };
        Ok(translate::report_from(self.client.verify(request).await?.into_inner())?)
    }
}

/// Records as they come.
#[derive(Debug)]
pub struct Following(Streaming<SealedRecord>);

impl Following {
    /// The next record; none at the end.
    ///
    /// # Errors
    /// [`RemoteError`].
    /// # Cancel safety
    /// Safe: no record is lost.
    pub async fn next(&mut self) -> Result<Option<SealedRecord>, RemoteError> {
        Ok(self.0.message().await?)
    }
}

impl From<Status> for RemoteError {
    fn from(status: Status) -> Self {
        // A broken connection has no message of its own: TLS 1.3 tells a client only then that it is not let in.
        let cause = std::error::Error::source(&status).map(root_cause);
        Self::Refused(cause.unwrap_or_else(|| status.message().to_owned()))
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
