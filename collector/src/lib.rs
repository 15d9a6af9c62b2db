//! The collector: takes the sealed records of many agents, stores them, and finds them again.
//!
//! [`Store`] is the embedded store (SQLite, one file per day); [`serve`] speaks gRPC over it; [`Remote`] is the other
//! end of the queries. `callgate run` embeds both, the binary `callgate-collector` is a config file around them.
//! Never decides, masks or alters anything: what arrives sealed is kept as it is.

mod certs;
mod config;
mod daemon;
mod error;
mod remote;
mod server;
mod store;
mod translate;
mod view;

pub use callgate_mtls::{Condition, Issuing, Role, ServerTls, TlsError, TlsFiles, days_until};
pub use certs::{CertsArgs, make_certs};
pub use config::{COLLECTOR_CONFIG, Config, ConfigError, LogFormat, Tls};
pub use daemon::Daemon;
pub use error::StoreError;
pub use remote::{Following, Remote, RemoteError};
pub use server::{
    Listen, ListenError, Metrics, PeerGuard, ServeError, Server, peer_cgroup, serve, serve_guarded, serve_tls,
};
pub use store::{
    Day, Filter, Head, Ingested, Kind, PAGE_MAX, Page, Report, Search, SessionSearch, SessionSummary, SessionsPage,
    Store, StreamFault, StreamReport, Tail,
};
pub use view::{StoredRecord, show_time};
