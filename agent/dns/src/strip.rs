//! Takes out of answers what would lead around the gate: `ech`, which hides the name from it, and HTTP/3, which it does
//! not carry.
//!
//! A record that works only with what is taken out is taken out whole. Signatures of a changed set are taken out with
//! it, and the answer no longer claims to be authentic: who verifies DNSSEC by itself sees that, and is not deceived.
//! Address hints stay: they are dialled like any other address.

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::SVCB;
use hickory_proto::rr::rdata::svcb::{SvcParamKey, SvcParamValue};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Strips every section; how many parameters, protocols and records were taken out.
pub fn strip(message: &mut Message) -> u32 {
    let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
    let stripped: u32 = sections.into_iter().map(section).sum();
    if stripped > 0 {
        message.metadata.authentic_data = false;
    }
    stripped
}

fn section(records: &mut Vec<Record>) -> u32 {
    let mut stripped = 0;
    let mut changed: Vec<(Name, RecordType)> = Vec::new();
    records.retain_mut(|record| {
        let svcb = match &mut record.data {
            RData::SVCB(svcb) => svcb,
            RData::HTTPS(https) => &mut https.0,
            _ => return true,
        };
        let before = stripped;
        let kept = service(svcb, &mut stripped);
        if stripped > before {
            changed.push((record.name.clone(), record.record_type()));
        }
        kept
    });
    records.retain(|record| {
        let Some(covered) = covers(record) else { return true };
        !changed.iter().any(|(name, kind)| *kind == covered && *name == record.name)
    });
    stripped
}

/// Whether the record is still of use.
fn service(svcb: &mut SVCB, stripped: &mut u32) -> bool {
    let mandatory = |wanted: SvcParamKey| {
        svcb.svc_params.iter().any(|(_, value)| match value {
            SvcParamValue::Mandatory(keys) => keys.0.contains(&wanted),
            _ => false,
        })
    };
    let (needs_ech, needs_alpn) = (mandatory(SvcParamKey::EchConfigList), mandatory(SvcParamKey::Alpn));
    let no_default = svcb.svc_params.iter().any(|(key, _)| *key == SvcParamKey::NoDefaultAlpn);
    let (mut ech, mut alpn) = (false, false);
    svcb.svc_params.retain_mut(|(key, value)| match value {
        _ if *key == SvcParamKey::EchConfigList => {
            (ech, *stripped) = (true, *stripped + 1);
            false
        }
        SvcParamValue::Alpn(protocols) => {
            let before = protocols.0.len();
            protocols.0.retain(|protocol| protocol != "h3" && !protocol.starts_with("h3-"));
            *stripped += u32::try_from(before - protocols.0.len()).unwrap_or(u32::MAX);
            alpn = protocols.0.is_empty();
            !alpn
        }
        _ => true,
    });
    // Without `alpn` the protocol is HTTP/1.1, unless the record says that it is not.
    !(ech && needs_ech || alpn && (needs_alpn || no_default))
}

/// The type that a signature covers: its first two bytes. Source: RFC 4034 §3.1.
fn covers(record: &Record) -> Option<RecordType> {
    match &record.data {
        RData::Unknown { code: RecordType::RRSIG, rdata } => match rdata.anything[..] {
            [high, low, ..] => Some(RecordType::from(u16::from_be_bytes([high, low]))),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::svcb::{Alpn, EchConfigList, IpHint, Mandatory};
    use hickory_proto::rr::rdata::{A, HTTPS, NULL};

    use super::*;

    fn name() -> Name {
        Name::from_ascii("www.example.").unwrap()
    }

    fn alpn(protocols: &[&str]) -> (SvcParamKey, SvcParamValue) {
        let protocols = protocols.iter().map(|protocol| (*protocol).to_owned()).collect();
        (SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(protocols)))
    }

    fn ech() -> (SvcParamKey, SvcParamValue) {
        (SvcParamKey::EchConfigList, SvcParamValue::EchConfigList(EchConfigList(vec![1, 2, 3])))
    }

    fn hint() -> (SvcParamKey, SvcParamValue) {
        (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(vec![A::new(192, 0, 2, 1)])))
    }

    fn mandatory(keys: &[SvcParamKey]) -> (SvcParamKey, SvcParamValue) {
        (SvcParamKey::Mandatory, SvcParamValue::Mandatory(Mandatory(keys.to_vec())))
    }

    fn https(parameters: Vec<(SvcParamKey, SvcParamValue)>) -> Record {
        Record::from_rdata(name(), 60, RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), parameters))))
    }

    fn signature(covered: RecordType) -> Record {
        let mut bytes = u16::from(covered).to_be_bytes().to_vec();
        bytes.extend([8; 20]);
        Record::from_rdata(name(), 60, RData::Unknown { code: RecordType::RRSIG, rdata: NULL::with(bytes) })
    }

    /// After a way over the wire, as it comes from an upstream.
    fn stripped(records: Vec<Record>) -> (Message, u32) {
        let mut message = Message::query().into_response();
        message.metadata.authentic_data = true;
        message.answers = records;
        let mut message = Message::from_vec(&message.to_vec().unwrap()).unwrap();
        let count = strip(&mut message);
        (Message::from_vec(&message.to_vec().unwrap()).unwrap(), count)
    }

    #[test]
    fn ech_and_http3_go_and_hints_stay() {
        let record = https(vec![alpn(&["h3", "h3-29", "h2", "http/1.1"]), hint(), ech()]);
        let (message, count) = stripped(vec![record, signature(RecordType::HTTPS), signature(RecordType::A)]);
        assert_eq!(count, 3);
        assert_eq!(message.answers, [https(vec![alpn(&["h2", "http/1.1"]), hint()]), signature(RecordType::A)]);
        assert!(!message.metadata.authentic_data);
    }

    #[test]
    fn http3_alone_leaves_the_default_or_nothing() {
        let (message, _) = stripped(vec![https(vec![alpn(&["h3"]), hint()])]);
        assert_eq!(message.answers, [https(vec![hint()])]);
        let no_default = (SvcParamKey::NoDefaultAlpn, SvcParamValue::NoDefaultAlpn);
        let (message, _) = stripped(vec![https(vec![alpn(&["h3"]), no_default])]);
        assert!(message.answers.is_empty());
    }

    #[test]
    fn what_cannot_work_without_goes_whole() {
        for key in [SvcParamKey::EchConfigList, SvcParamKey::Alpn] {
            let (message, _) = stripped(vec![https(vec![mandatory(&[key]), alpn(&["h3"]), ech()])]);
            assert!(message.answers.is_empty(), "{key}");
        }
    }

    #[test]
    fn what_holds_nothing_of_it_is_left_as_it_is() {
        let records = vec![https(vec![alpn(&["h2"]), hint()]), signature(RecordType::HTTPS)];
        let (message, count) = stripped(records.clone());
        assert_eq!((message.answers, count), (records, 0));
        assert!(message.metadata.authentic_data);
    }
}
