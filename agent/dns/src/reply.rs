//! The bytes that the workload gets: its own question repeated, sizes kept, what does not fit cut off and marked so.

use callgate_model::DnsTransport;
use hickory_proto::op::{Edns, Message, OpCode, ResponseCode};

use crate::question::Question;

/// Longest datagram for a client without EDNS. Unit: bytes. Source: RFC 1035 §4.2.1.
const PLAIN: usize = 512;

/// Longest datagram that we send. Unit: bytes. Source: RFC 6891 §6.2.5.
const LONGEST: u16 = 4_096;

/// The answer to `question` with what `upstream` said.
pub(crate) fn of(question: &Question, upstream: Message) -> Message {
    let mut reply = empty(question, upstream.metadata.response_code);
    reply.metadata.authentic_data = upstream.metadata.authentic_data;
    reply.answers = upstream.answers;
    reply.authorities = upstream.authorities;
    reply.additionals = upstream.additionals;
    reply
}

/// An answer without records.
pub(crate) fn empty(question: &Question, code: ResponseCode) -> Message {
    let mut reply = Message::response(question.id, OpCode::Query);
    reply.metadata.response_code = code;
    reply.metadata.recursion_desired = question.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.checking_disabled = question.checking_disabled;
    reply.queries.push(question.asked.clone());
    reply.edns = question.edns.map(|asked| {
        let mut edns = Edns::new();
        edns.set_max_payload(LONGEST).set_dnssec_ok(asked.dnssec_ok);
        edns
    });
    reply
}

/// The bytes; none where even the empty answer cannot be written.
pub(crate) fn encode(reply: &Message, question: Option<&Question>, transport: DnsTransport) -> Option<Vec<u8>> {
    let most = match transport {
        DnsTransport::Tcp => usize::from(u16::MAX),
        DnsTransport::Udp => {
            let asked = question.and_then(|question| question.edns);
            asked.map_or(PLAIN, |asked| usize::from(asked.payload.min(LONGEST)).max(PLAIN))
        }
    };
    match reply.to_vec() {
        Ok(bytes) if bytes.len() <= most => Some(bytes),
        _ => reply.truncate().to_vec().ok().filter(|bytes| bytes.len() <= most),
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::{A, TXT};
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    use super::*;
    use crate::question::tests::{query, question};

    /// An answer with so many records of 16 bytes; of some hundreds not all are compressed.
    fn answer(question: &Question, records: usize) -> Message {
        let mut upstream = query("a.example.", RecordType::A).into_response();
        for n in 0..records {
            let address = RData::A(A::new(192, 0, 2, n as u8));
            upstream.answers.push(Record::from_rdata(question.name.clone(), 60, address));
        }
        of(question, upstream)
    }

    fn with_payload(payload: Option<u16>) -> Question {
        let mut asked = query("a.example.", RecordType::A);
        asked.edns = payload.map(|payload| {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            edns
        });
        question(&asked)
    }

    fn sent(payload: Option<u16>, records: usize, transport: DnsTransport) -> Message {
        let question = with_payload(payload);
        let bytes = encode(&answer(&question, records), Some(&question), transport).unwrap();
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!((message.metadata.id, &message.queries[0]), (question.id, &question.asked));
        assert_eq!(message.edns.is_some(), payload.is_some());
        message
    }

    #[test]
    fn what_does_not_fit_is_cut_off_and_says_so() {
        for (payload, records, fits) in [
            (None, 29, true),
            (None, 31, false),
            (Some(100), 30, false),
            (Some(100), 29, true),
            (Some(1232), 70, true),
            (Some(1232), 80, false),
            (Some(65_535), 150, true),
            (Some(65_535), 300, false),
        ] {
            let message = sent(payload, records, DnsTransport::Udp);
            assert_eq!(message.metadata.truncation, !fits, "{payload:?} {records}");
            assert_eq!(message.answers.len(), if fits { records } else { 0 });
            assert_eq!(sent(payload, records, DnsTransport::Tcp).answers.len(), records);
        }
    }

    #[test]
    fn what_fits_in_no_message_is_cut_off_too() {
        let question = with_payload(None);
        let mut reply = answer(&question, 0);
        for _ in 0..300 {
            let text = RData::TXT(TXT::new(vec!["x".repeat(250)]));
            reply.answers.push(Record::from_rdata(Name::root(), 60, text));
        }
        let bytes = encode(&reply, Some(&question), DnsTransport::Tcp).unwrap();
        assert!(Message::from_vec(&bytes).unwrap().metadata.truncation);
    }

    #[test]
    fn codes_are_passed_on() {
        let question = with_payload(Some(1232));
        for code in [ResponseCode::NXDomain, ResponseCode::ServFail, ResponseCode::BADVERS] {
            let bytes = encode(&empty(&question, code), Some(&question), DnsTransport::Udp).unwrap();
            let message = Message::from_vec(&bytes).unwrap();
            // 16 has two names.
            assert_eq!(u16::from(message.metadata.response_code), u16::from(code));
            assert!(message.metadata.recursion_available && !message.metadata.authoritative);
        }
    }
}
