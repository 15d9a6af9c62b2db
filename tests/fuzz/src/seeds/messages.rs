//! Messages of DNS: questions, answers with much in them, and what is neither.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::svcb::{Alpn, EchConfigList, Mandatory, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, CNAME, HTTPS, NULL, SVCB};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::Seed;

/// Named after what they are.
pub fn messages() -> Vec<Seed> {
    let name = || Name::from_ascii("Www.example.com.").expect("a name");
    let record = |data: RData| Record::from_rdata(name(), 60, data);
    let of = |kind: MessageType, query_type: RecordType| {
        let mut message = Message::new(0x1234, kind, OpCode::Query);
        message.queries.push(Query::query(name(), query_type));
        message
    };
    let plain = of(MessageType::Query, RecordType::A);
    let mut edns = of(MessageType::Query, RecordType::HTTPS);
    edns.edns = Some(Edns::new());
    let mut chain = of(MessageType::Response, RecordType::A);
    chain.answers = vec![record(RData::CNAME(CNAME(name()))), record(RData::A(A::new(192, 0, 2, 1)))];
    let mut service = of(MessageType::Response, RecordType::HTTPS);
    let parameters = vec![
        (SvcParamKey::Mandatory, SvcParamValue::Mandatory(Mandatory(vec![SvcParamKey::Alpn]))),
        (SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(vec!["h3".into(), "h2".into()]))),
        (SvcParamKey::EchConfigList, SvcParamValue::EchConfigList(EchConfigList(vec![1, 2, 3]))),
    ];
    let signature = RData::Unknown { code: RecordType::RRSIG, rdata: NULL::with(vec![0, 65, 13, 2, 0, 0, 0, 60]) };
    service.answers = vec![record(RData::HTTPS(HTTPS(SVCB::new(1, name(), parameters.clone())))), record(signature)];
    service.additionals = vec![record(RData::SVCB(SVCB::new(2, Name::root(), parameters)))];
    let mut seeds: Vec<Seed> = [("question", plain), ("edns", edns), ("chain", chain), ("service", service)]
        .into_iter()
        .map(|(name, message)| Seed::new(name, message.to_vec().expect("a message")))
        .collect();
    seeds.push(Seed::new("looped", *b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01"));
    seeds.push(Seed::new("many", *b"\x12\x34\x01\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\x01\0\x01"));
    seeds.push(Seed::new("short", *b"\x12\x34\x01"));
    seeds
}
