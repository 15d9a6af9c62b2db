//! The resolver against a real name server of the test's own, over UDP and TCP on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use callgate_dns::{Answered, Asked, Resolver, Settings, Upstreams};
use callgate_harness::NameServer;
use callgate_model::{CgroupId, DnsTransport, Reason};
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

fn resolver(upstreams: &[SocketAddr]) -> Resolver {
    let settings = Settings {
        upstreams: Upstreams::Fixed(upstreams.to_vec()),
        timeout: Duration::from_millis(500),
        queries_per_s: 1_000,
        ..Settings::default()
    };
    Resolver::new(settings).unwrap()
}

fn question(name: &str, query_type: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(Name::from_ascii(name).unwrap(), query_type));
    message
}

async fn ask_as(
    resolver: &Resolver,
    question: &Message,
    observed: bool,
    transport: DnsTransport,
) -> (Answered, Message) {
    let bytes = question.to_vec().unwrap();
    let asked = Asked { workload: CgroupId(7), observed, transport, bytes: &bytes };
    let answered = resolver.answer(asked).await.unwrap();
    let message = Message::from_vec(&answered.bytes).unwrap();
    assert_eq!((message.metadata.id, &message.queries), (question.metadata.id, &question.queries));
    (answered, message)
}

async fn ask(resolver: &Resolver, question: &Message) -> (Answered, Message) {
    ask_as(resolver, question, false, DnsTransport::Udp).await
}

#[tokio::test]
async fn an_answer_is_passed_on_and_kept() {
    let server = NameServer::start().unwrap();
    let resolver = resolver(&[server.address()]);
    for _ in 0..3 {
        let (answered, message) = ask(&resolver, &question("www.Example.", RecordType::A)).await;
        assert_eq!((answered.rcode.as_str(), answered.answers, answered.reason), ("NOERROR", 1, Reason::Permitted));
        assert_eq!((answered.name.as_str(), answered.query_type.as_str()), ("www.example", "A"));
        assert_eq!(message.answers[0].data.ip_addr().unwrap().to_string(), "192.0.2.80");
        assert!(message.metadata.recursion_available && !message.metadata.authoritative);
    }
    assert_eq!(server.asked(), ["www.example. A udp"]);
}

#[tokio::test]
async fn failures_are_passed_on() {
    let server = NameServer::start().unwrap();
    let resolver = resolver(&[server.address()]);
    let (none, message) = ask(&resolver, &question("nxdomain.example.", RecordType::A)).await;
    assert_eq!((none.rcode.as_str(), none.reason), ("NXDOMAIN", Reason::Permitted));
    assert_eq!(message.authorities[0].record_type(), RecordType::SOA);
    let (failed, _) = ask(&resolver, &question("servfail.example.", RecordType::A)).await;
    assert_eq!(failed.rcode, "SERVFAIL");
}

#[tokio::test]
async fn what_is_cut_off_is_asked_again_over_tcp_and_sized_for_the_client() {
    let server = NameServer::start().unwrap();
    let resolver = resolver(&[server.address()]);
    let mut large = question("large.example.", RecordType::A);
    let (_, message) = ask(&resolver, &large).await;
    assert!(message.metadata.truncation && message.answers.is_empty(), "512 bytes without EDNS");
    assert_eq!(server.asked(), ["large.example. A udp", "large.example. A tcp"]);
    let (_, message) = ask_as(&resolver, &large, false, DnsTransport::Tcp).await;
    assert_eq!(message.answers.len(), 150);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    large.edns = Some(edns);
    let (_, message) = ask(&resolver, &large).await;
    assert_eq!((message.answers.len(), message.metadata.truncation), (150, false));
}

#[tokio::test]
async fn hints_to_go_around_the_gate_are_taken_out_unless_it_only_observes() {
    let server = NameServer::start().unwrap();
    let resolver = resolver(&[server.address()]);
    let asked = question("www.example.", RecordType::HTTPS);
    let (answered, message) = ask(&resolver, &asked).await;
    assert_eq!(answered.stripped, 2);
    let RData::HTTPS(https) = &message.answers[0].data else { panic!("{message}") };
    assert_eq!(https.to_string(), "1 . alpn=h2, ipv4hint=192.0.2.80,");
    assert!(!message.metadata.authentic_data);
    let (observed, message) = ask_as(&resolver, &asked, true, DnsTransport::Udp).await;
    assert_eq!(observed.stripped, 0);
    assert!(message.answers[0].data.to_string().contains("ech=") && message.metadata.authentic_data);
}

#[tokio::test]
async fn a_name_that_carries_data_away_goes_nowhere() {
    let server = NameServer::start().unwrap();
    let resolver = resolver(&[server.address()]);
    let hostile = question("mzxw6ytboi5gk3tdmfzwk4tfmnzgk5bamrqxiyjam5xwk4z.t.example.", RecordType::TXT);
    let (answered, _) = ask(&resolver, &hostile).await;
    assert_eq!((answered.rcode.as_str(), answered.reason), ("REFUSED", Reason::DnsName));
    assert_eq!(server.asked(), [""; 0]);
    // What is only observed is looked up, and noted.
    let (answered, _) = ask_as(&resolver, &hostile, true, DnsTransport::Udp).await;
    assert_eq!((answered.rcode.as_str(), answered.reason), ("NXDOMAIN", Reason::DnsName));
}

#[tokio::test]
async fn who_asks_too_fast_is_refused() {
    let server = NameServer::start().unwrap();
    let settings =
        Settings { upstreams: Upstreams::Fixed(vec![server.address()]), queries_per_s: 1, ..Settings::default() };
    let resolver = Resolver::new(settings).unwrap();
    let mut reasons = Vec::new();
    for _ in 0..4 {
        reasons.push(ask(&resolver, &question("www.example.", RecordType::A)).await.0.reason);
    }
    assert!(reasons.starts_with(&[Reason::Permitted; 2]) && reasons.contains(&Reason::LimitReached), "{reasons:?}");
}

#[tokio::test]
async fn canaries_for_encrypted_dns_do_not_exist() {
    let server = NameServer::start().unwrap();
    let resolver = resolver(&[server.address()]);
    for name in ["use-application-dns.net.", "_dns.resolver.arpa."] {
        let (answered, _) = ask(&resolver, &question(name, RecordType::A)).await;
        assert_eq!((answered.rcode.as_str(), answered.reason), ("NXDOMAIN", Reason::Permitted), "{name}");
    }
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn the_next_resolver_is_asked_where_one_is_silent_or_fails() {
    let server = NameServer::start().unwrap();
    // Bound and never read.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = resolver(&[silent.local_addr().unwrap(), server.address()]);
    let (answered, _) = ask(&resolver, &question("www.example.", RecordType::A)).await;
    assert_eq!(answered.rcode, "NOERROR");
}

#[tokio::test]
async fn without_anybody_to_ask_there_is_a_failure() {
    for upstreams in [vec![], vec!["127.0.0.1:9".parse().unwrap()]] {
        let (answered, message) = ask(&resolver(&upstreams), &question("www.example.", RecordType::A)).await;
        assert_eq!((answered.rcode.as_str(), answered.answers), ("SERVFAIL", 0));
        assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    }
}

#[tokio::test]
async fn a_forged_answer_is_passed_over() {
    let server = NameServer::start().unwrap();
    let resolver = resolver(&[server.address()]);
    let (answered, message) = ask(&resolver, &question("forged.example.", RecordType::A)).await;
    assert_eq!(answered.rcode, "NOERROR");
    assert_eq!(message.answers[0].data.ip_addr().unwrap().to_string(), "192.0.2.80");
}
