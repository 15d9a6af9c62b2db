//! The server over real sockets: queries give what the store gives, and who may not connect does not.

use std::time::Duration;

use callgate_model::{CallId, SessionId, StreamId};
use callgate_proto::v1::ingest_client::IngestClient;
use callgate_proto::v1::{Batch, Hello, ShipReply, ShipRequest, ship_reply, ship_request};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::*;
use crate::store::testing::{NOON, SESSION, Sealer, call};
use crate::{Filter, Kind, Remote, RemoteError, Search, SessionSearch};

fn calls(sealer: &mut Sealer, count: u64) -> Vec<callgate_proto::v1::SealedRecord> {
    sealer.all((0..count).flat_map(|n| call(NOON + n * 1_000, CallId::new(), &format!("/{n}"), "hello")))
}

async fn ship(endpoint: &str, messages: Vec<ship_request::Message>) -> Result<Vec<ship_reply::Message>, tonic::Status> {
    let channel = tonic::transport::Endpoint::from_shared(endpoint.to_owned()).unwrap().connect().await.unwrap();
    let (requests, outgoing) = tokio::sync::mpsc::channel(16);
    for message in messages {
        requests.send(ShipRequest { message: Some(message) }).await.unwrap();
    }
    drop(requests);
    let mut replies = IngestClient::new(channel).ship(ReceiverStream::new(outgoing)).await?.into_inner();
    let mut all = Vec::new();
    while let Some(ShipReply { message: Some(message) }) = replies.message().await? {
        all.push(message);
    }
    Ok(all)
}

fn hello(stream: &str) -> ship_request::Message {
    ship_request::Message::Hello(Hello { stream: stream.into(), node: "n".into(), version: "1".into() })
}

fn batch(records: &[callgate_proto::v1::SealedRecord]) -> ship_request::Message {
    ship_request::Message::Batch(Batch { records: records.to_vec() })
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_give_what_the_store_gives() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let mut sealer = Sealer::new("n/agent");
    store.ingest(&calls(&mut sealer, 600)).unwrap();
    let server = serve(store.clone(), Listen::Unix(dir.path().join("socket"))).await.unwrap();
    let mut remote = Remote::connect(server.endpoint()).await.unwrap();

    let search = Search {
        filter: Filter { kinds: vec![Kind::Begin], function: Some("/7".into()), ..Default::default() },
        limit: 5,
        ..Default::default()
    };
    let page = remote.search(&search).await.unwrap();
    assert_eq!(page, store.search(&search).unwrap());
    assert_eq!(page.records.len(), 5);
    let sessions = SessionSearch { limit: 5, ..Default::default() };
    assert_eq!(remote.sessions(&sessions).await.unwrap(), store.sessions(&sessions).unwrap());
    let stream = StreamId("n/agent".into());
    let head = store.streams().unwrap()[0].1;
    let report = remote.verify(Some(&stream), Some(head)).await.unwrap();
    assert_eq!(report, store.verify(Some(&stream), Some(head)).unwrap());

    // A session longer than a page comes whole and in order.
    let mut records = remote.session(SESSION).await.unwrap().unwrap();
    let mut seqs = Vec::new();
    while let Some(record) = records.next().await.unwrap() {
        seqs.push(record.seq);
    }
    assert!(seqs.len() == 1_800 && seqs.is_sorted());
    assert!(remote.session(SessionId::new()).await.unwrap().is_none());

    let mut tail = remote.tail(&Filter::default(), 2).await.unwrap();
    let mut next = async || tail.next().await.unwrap().unwrap().seq;
    assert_eq!((next().await, next().await), (1_799, 1_800));
    store.ingest(&calls(&mut sealer, 1)).unwrap();
    assert_eq!(next().await, 1_801);
    // Another process's write has no bell of ours.
    Store::open(&dir.path().join("store")).unwrap().ingest(&calls(&mut sealer, 1)[..]).unwrap();
    while next().await != 1_806 {}

    let wrong = Search { cursor: "nonsense".into(), ..Default::default() };
    assert!(matches!(remote.search(&wrong).await, Err(RemoteError::Refused(text)) if text.contains("nonsense")));
    // A follower does not hold up the stop.
    tokio::time::timeout(Duration::from_secs(5), server.stop()).await.unwrap();
    assert!(!dir.path().join("socket").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn shipments_are_acknowledged_and_broken_chains_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let server = serve(store.clone(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let at = server.endpoint();
    let records = calls(&mut Sealer::new("n/agent"), 4);

    let replies = ship(at, vec![hello("n/agent"), batch(&records[..6]), batch(&[])]).await.unwrap();
    assert!(matches!(&replies[0], ship_reply::Message::Welcome(welcome) if welcome.last_seq == 0));
    assert!(matches!(&replies[1], ship_reply::Message::Ack(ack) if ack.seq == 6));
    let replies = ship(at, vec![hello("n/agent"), batch(&records)]).await.unwrap();
    assert!(
        matches!(&replies[0], ship_reply::Message::Welcome(w) if w.last_seq == 6 && w.last_hash == records[5].hash)
    );
    assert!(matches!(&replies[1], ship_reply::Message::Ack(ack) if ack.seq == 12));

    let code = async |messages| ship(at, messages).await.unwrap_err().code();
    let more = calls(&mut Sealer::new("n/agent"), 6);
    assert_eq!(code(vec![hello("n/agent"), batch(&more[12..])]).await, Code::DataLoss);
    assert_eq!(code(vec![hello("n/agent"), batch(&more[..1])]).await, Code::DataLoss);
    assert_eq!(code(vec![hello("n/other"), batch(&records)]).await, Code::InvalidArgument);
    assert_eq!(code(vec![batch(&records)]).await, Code::InvalidArgument);
    assert_eq!(code(vec![hello("no stream")]).await, Code::InvalidArgument);
    assert_eq!(code(vec![hello("n/agent"), hello("n/agent")]).await, Code::InvalidArgument);
    assert!(store.verify(None, None).unwrap().is_whole());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_private_and_asks_who_comes() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let path = dir.path().join("socket");
    let me = std::process::id();
    let server = serve_guarded(store.clone(), Listen::Unix(path.clone()), PeerGuard::new(move |pid| pid != me));
    let server = server.await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = async {
        let mut remote = Remote::connect(server.endpoint()).await?;
        remote.sessions(&SessionSearch::default()).await.map(drop)
    };
    assert!(refused.await.is_err());
    let second = serve(store.clone(), Listen::Unix(path.clone())).await;
    assert!(matches!(second, Err(ServeError::InUse(_))));
    server.stop().await;

    // What a killed collector leaves is taken over.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let server = serve(store, Listen::Unix(path.clone())).await.unwrap();
    let mut remote = Remote::connect(server.endpoint()).await.unwrap();
    assert!(remote.sessions(&SessionSearch::default()).await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn remote_addresses_are_checked() {
    for address in ["http://10.0.0.7:4700", "http://collector:4700"] {
        assert!(matches!(Remote::connect(address).await, Err(RemoteError::NotLoopback(_))), "{address}");
    }
    for address in ["", "127.0.0.1:4700", "https://127.0.0.1"] {
        assert!(matches!(Remote::connect_with(address, None).await, Err(RemoteError::Address(_))), "{address}");
    }
    let error = Remote::connect("unix:/nonexistent/socket").await.unwrap_err().to_string();
    assert!(error.contains("no collector at `unix:/nonexistent/socket`"), "{error}");
}
