//! DNS: what is read as a question can be answered; what is stripped of an answer stays a message and holds no way
//! around the gate.

use callgate_dns::{Read, read, strip};
use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::SVCB;
use hickory_proto::rr::rdata::svcb::{SvcParamKey, SvcParamValue};

/// The input is a question, or an upstream's answer.
pub fn run(data: &[u8]) -> bool {
    let asked = match read(data) {
        Read::Question(question) => {
            assert!(question.name().len() <= 4 * 255, "a name longer than names are");
            assert!(!question.name().bytes().any(|byte| byte.is_ascii_uppercase()), "not in lower case");
            true
        }
        Read::Unfit(answer) => {
            assert_eq!(answer.metadata.id.to_be_bytes(), data[..2], "an answer to another question");
            assert!(answer.to_vec().is_ok_and(|bytes| bytes.len() <= data.len() + 12), "an answer that is longer");
            false
        }
        Read::Nothing => false,
    };
    asked | answered(data)
}

fn answered(data: &[u8]) -> bool {
    let Ok(mut message) = Message::from_vec(data) else { return false };
    strip(&mut message);
    let Ok(bytes) = message.to_vec() else { return false };
    let Ok(mut stripped) = Message::from_vec(&bytes) else { return false };
    assert!(services(&stripped).all(is_plain), "something is left: {stripped}");
    assert_eq!(strip(&mut stripped), 0, "stripped twice");
    true
}

fn services(message: &Message) -> impl Iterator<Item = &SVCB> {
    message.all_sections().filter_map(|record| match &record.data {
        RData::SVCB(svcb) => Some(svcb),
        RData::HTTPS(https) => Some(&https.0),
        _ => None,
    })
}

fn is_plain(service: &SVCB) -> bool {
    service.svc_params.iter().all(|(key, value)| {
        let http3 = |protocol: &String| protocol == "h3" || protocol.starts_with("h3-");
        *key != SvcParamKey::EchConfigList
            && !matches!(value, SvcParamValue::Alpn(protocols) if protocols.0.iter().any(http3))
    })
}
