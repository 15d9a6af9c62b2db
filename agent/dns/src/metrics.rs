//! Counters of the resolver. Labels come from closed lists alone.

use callgate_model::Reason;
use hickory_proto::op::ResponseCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    rcode: &'static str,
    reason: &'static str,
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    questions: Family<Labels, Counter>,
    cached: Counter,
    stripped: Counter,
    dropped: Counter,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("callgate_dns_questions", "Questions of DNS answered", self.questions.clone());
        registry.register("callgate_dns_cached", "Questions answered from the cache", self.cached.clone());
        registry.register(
            "callgate_dns_stripped",
            "Parts of HTTPS and SVCB records taken out of answers",
            self.stripped.clone(),
        );
        registry.register(
            "callgate_dns_dropped",
            "Datagrams and messages that got no answer: no question, too many at once, or no known sender",
            self.dropped.clone(),
        );
    }

    pub(crate) fn answered(&self, code: ResponseCode, reason: Reason, stripped: u32) {
        self.questions.get_or_create(&Labels { rcode: label(code), reason: reason.as_str() }).inc();
        self.stripped.inc_by(u64::from(stripped));
    }

    pub(crate) fn cached(&self) {
        self.cached.inc();
    }

    pub(crate) fn dropped(&self) {
        self.dropped.inc();
    }
}

/// The code's word in records.
pub(crate) fn word(code: ResponseCode) -> String {
    match label(code) {
        "other" => format!("RCODE{}", u16::from(code)),
        known => known.to_owned(),
    }
}

/// The code's word in metrics. Source: IANA's DNS RCODEs.
fn label(code: ResponseCode) -> &'static str {
    match u16::from(code) {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        9 => "NOTAUTH",
        16 => "BADVERS",
        _ => "other",
    }
}
