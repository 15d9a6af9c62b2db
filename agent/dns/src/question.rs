//! Reading a question: one name, one type, class IN, and nothing beside.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};

/// Length of a header. Unit: bytes. Source: RFC 1035 §4.1.1.
const HEADER: usize = 12;

/// Transfers of whole zones, types that exist in requests alone, and NULL, which nobody but tunnels asks for.
/// Source: IANA's DNS parameters: NULL, OPT, and 249 to 254 (TKEY, TSIG, IXFR, AXFR, MAILB, MAILA).
const REFUSED_TYPES: [u16; 8] = [10, 41, 249, 250, 251, 252, 253, 254];

/// What some bytes are.
#[derive(Debug)]
pub enum Read {
    /// A question.
    Question(Question),
    /// Answered with this code, and nothing else.
    Unfit(Box<Message>),
    /// Neither a question nor the start of one: dropped.
    Nothing,
}

/// A question that can be answered.
#[derive(Clone, Debug)]
pub struct Question {
    /// As it was asked: answers repeat it byte by byte.
    pub(crate) asked: Query,
    /// The name in lower case.
    pub(crate) name: Name,
    pub(crate) id: u16,
    pub(crate) recursion_desired: bool,
    pub(crate) checking_disabled: bool,
    /// What the client takes beyond RFC 1035; none: it does not speak EDNS.
    pub(crate) edns: Option<EdnsAsked>,
}

/// The client's EDNS, as far as it is honoured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EdnsAsked {
    /// Longest datagram that it takes. Unit: bytes.
    pub(crate) payload: u16,
    pub(crate) dnssec_ok: bool,
}

impl Question {
    /// The name asked for, in lower case, without the final dot.
    #[must_use]
    pub fn name(&self) -> String {
        shown(&self.name)
    }

    /// The type asked for.
    #[must_use]
    pub fn query_type(&self) -> RecordType {
        self.asked.query_type()
    }

    pub(crate) fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }
}

/// A name in ASCII, without the final dot; the root is `.`.
pub(crate) fn shown(name: &Name) -> String {
    let text = name.to_ascii();
    match text.strip_suffix('.') {
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => text,
    }
}

/// Reads the bytes of one message.
#[must_use]
pub fn read(bytes: &[u8]) -> Read {
    // The counts are looked at first: reading makes room for as many as they say.
    let Some(header) = bytes.get(..HEADER) else { return Read::Nothing };
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (id, flags) = (field(0), field(2));
    if flags & 0x8000 != 0 {
        // An answer: whoever answers answers can be made to talk to itself.
        return Read::Nothing;
    }
    let op_code = OpCode::from_u8(((flags >> 11) & 0xf) as u8);
    let unfit = |code: ResponseCode| Read::Unfit(Box::new(Message::error_msg(id, op_code, code)));
    if op_code != OpCode::Query {
        return unfit(ResponseCode::NotImp);
    }
    if (field(4), field(6), field(8)) != (1, 0, 0) || field(10) > 1 {
        return unfit(ResponseCode::FormErr);
    }
    let mut decoder = BinDecoder::new(bytes);
    let Ok(message) = Message::read(&mut decoder) else { return unfit(ResponseCode::FormErr) };
    // Anything beside OPT (a signature) would be left unchecked, anything behind it unread.
    if !decoder.is_empty() || !message.additionals.is_empty() || message.signature.is_some() {
        return unfit(ResponseCode::FormErr);
    }
    let Some(asked) = message.queries.first().cloned() else { return unfit(ResponseCode::FormErr) };
    let refused = |code: ResponseCode| {
        let mut answer = Message::error_msg(id, op_code, code);
        answer.metadata.recursion_desired = message.metadata.recursion_desired;
        answer.queries.push(asked.clone());
        if message.edns.is_some() {
            answer.edns = Some(Edns::new());
        }
        Read::Unfit(Box::new(answer))
    };
    if message.metadata.message_type != MessageType::Query {
        return Read::Nothing;
    }
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refused(ResponseCode::BADVERS);
    }
    if asked.query_class() != DNSClass::IN || REFUSED_TYPES.contains(&u16::from(asked.query_type())) {
        return refused(ResponseCode::Refused);
    }
    let mut name = asked.name().to_lowercase();
    name.set_fqdn(true);
    Read::Question(Question {
        name,
        id,
        recursion_desired: message.metadata.recursion_desired,
        checking_disabled: message.metadata.checking_disabled,
        edns: message
            .edns
            .as_ref()
            .map(|edns| EdnsAsked { payload: edns.max_payload(), dnssec_ok: edns.flags().dnssec_ok }),
        asked,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn query(name: &str, query_type: RecordType) -> Message {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.queries.push(Query::query(Name::from_ascii(name).unwrap(), query_type));
        message
    }

    pub(crate) fn question(message: &Message) -> Question {
        match read(&message.to_vec().unwrap()) {
            Read::Question(question) => question,
            other => panic!("{other:?}"),
        }
    }

    fn code(bytes: &[u8]) -> ResponseCode {
        match read(bytes) {
            Read::Unfit(answer) => answer.metadata.response_code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plain_question_is_read_with_its_case() {
        let mut message = query("WwW.Example.com.", RecordType::A);
        let mut edns = Edns::new();
        edns.set_max_payload(1400).set_dnssec_ok(true);
        message.edns = Some(edns);
        let question = question(&message);
        assert_eq!(question.name(), "www.example.com");
        assert!(question.asked.name().eq_case(&Name::from_ascii("WwW.Example.com.").unwrap()));
        assert_eq!(question.edns, Some(EdnsAsked { payload: 1400, dnssec_ok: true }));
    }

    #[test]
    fn what_is_no_question_is_dropped() {
        let mut answer = query("a.example.", RecordType::A);
        answer.metadata.message_type = MessageType::Response;
        for bytes in [&b""[..], b"short", &answer.to_vec().unwrap()] {
            assert!(matches!(read(bytes), Read::Nothing));
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let whole = query("a.example.", RecordType::A).to_vec().unwrap();
        for cut in HEADER..whole.len() {
            assert_eq!(code(&whole[..cut]), ResponseCode::FormErr, "{cut}");
        }
        let mut behind = whole.clone();
        behind.push(0);
        assert_eq!(code(&behind), ResponseCode::FormErr);
        let mut two = query("a.example.", RecordType::A);
        two.queries.push(two.queries[0].clone());
        assert_eq!(code(&two.to_vec().unwrap()), ResponseCode::FormErr);
        let mut counted = whole.clone();
        counted[4] = 0xff;
        assert_eq!(code(&counted), ResponseCode::FormErr);
        // A name that points at itself.
        let mut looped = whole[..HEADER].to_vec();
        looped.extend([0xc0, 12, 0, 1, 0, 1]);
        assert_eq!(code(&looped), ResponseCode::FormErr);
    }

    #[test]
    fn what_is_not_answered_says_so() {
        let mut update = query("a.example.", RecordType::SOA);
        update.metadata.op_code = OpCode::Update;
        assert_eq!(code(&update.to_vec().unwrap()), ResponseCode::NotImp);
        for refused in [RecordType::AXFR, RecordType::IXFR, RecordType::NULL] {
            assert_eq!(code(&query("a.example.", refused).to_vec().unwrap()), ResponseCode::Refused);
        }
        let mut chaos = query("version.bind.", RecordType::TXT);
        chaos.queries[0].set_query_class(DNSClass::CH);
        assert_eq!(code(&chaos.to_vec().unwrap()), ResponseCode::Refused);
        let mut later = query("a.example.", RecordType::A);
        later.edns = Some(Edns::new());
        later.edns.as_mut().unwrap().set_version(1);
        assert_eq!(code(&later.to_vec().unwrap()), ResponseCode::BADVERS);
    }
}
