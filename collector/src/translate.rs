//! Queries and their answers as messages, in both directions: the server and [`Remote`](crate::Remote) share them.

use callgate_model::{CallId, SessionId, StreamId};
use callgate_proto::{ProtoError, id_from_bytes, v1};
use callgate_seal::{FaultKind, Hash};

use crate::{Filter, Head, Kind, Report, Search, SessionSearch, SessionSummary, StreamFault, StreamReport};

/// Page size where a request leaves it to the collector.
const PAGE: usize = 100;

pub(crate) fn search_from(request: v1::SearchRequest) -> Result<Search, ProtoError> {
    let v1::SearchRequest { filter, limit, cursor, oldest_first } = request;
    Ok(Search { filter: filter_from(filter.unwrap_or_default())?, limit: page(limit), cursor, oldest_first })
}

pub(crate) fn search_to(search: &Search) -> v1::SearchRequest {
    v1::SearchRequest {
        filter: Some(filter_to(&search.filter)),
        limit: u32::try_from(search.limit).unwrap_or(u32::MAX),
        cursor: search.cursor.clone(),
        oldest_first: search.oldest_first,
    }
}

pub(crate) fn filter_from(filter: v1::Filter) -> Result<Filter, ProtoError> {
    let v1::Filter { stream, workload, session, call, function, verdict, reason, kinds, from_us, until_us, text } =
        filter;
    let verdict = verdict.map(|value| {
        let verdict = v1::Verdict::try_from(value).map_err(|_| unknown("verdict", &value.to_string()))?;
        verdict.try_into()
    });
    let reason = reason.map(|word| word.parse().map_err(|()| unknown("reason", &word)));
    let kinds = kinds.iter().map(|word| word.parse::<Kind>().map_err(|()| unknown("kind", word)));
    Ok(Filter {
        stream: stream.map(StreamId),
        workload,
        session: session.map(|id| id_from_bytes("session", &id)).transpose()?.map(SessionId),
        call: call.map(|id| id_from_bytes("call", &id)).transpose()?.map(CallId),
        function,
        verdict: verdict.transpose()?,
        reason: reason.transpose()?,
        kinds: kinds.collect::<Result<_, _>>()?,
        from_us,
        until_us,
        text,
    })
}

pub(crate) fn filter_to(filter: &Filter) -> v1::Filter {
    v1::Filter {
        stream: filter.stream.as_ref().map(|stream| stream.0.clone()),
        workload: filter.workload.clone(),
        session: filter.session.map(|id| id.0.into_bytes().to_vec()),
        call: filter.call.map(|id| id.0.into_bytes().to_vec()),
        function: filter.function.clone(),
        verdict: filter.verdict.map(|verdict| v1::Verdict::from(verdict).into()),
        reason: filter.reason.map(|reason| reason.to_string()),
        kinds: filter.kinds.iter().map(|kind| kind.as_str().to_owned()).collect(),
        from_us: filter.from_us,
        until_us: filter.until_us,
        text: filter.text.clone(),
    }
}

pub(crate) fn session_search_from(request: v1::SessionsRequest) -> SessionSearch {
    let v1::SessionsRequest { workload, from_us, until_us, limit, cursor } = request;
    SessionSearch { workload, from_us, until_us, limit: page(limit), cursor }
}

pub(crate) fn session_search_to(search: &SessionSearch) -> v1::SessionsRequest {
    let SessionSearch { workload, from_us, until_us, limit, cursor } = search.clone();
    v1::SessionsRequest { workload, from_us, until_us, limit: u32::try_from(limit).unwrap_or(u32::MAX), cursor }
}

pub(crate) fn summary_to(summary: SessionSummary) -> v1::SessionSummary {
    let SessionSummary {
        session, workload, stream, first_us, last_us, calls, denied, failed, masked, connections, ..
    } = summary;
    let SessionSummary { executable, executable_sha256, .. } = summary;
    let session = session.0.into_bytes().to_vec();
    v1::SessionSummary {
        session,
        workload,
        stream,
        first_us,
        last_us,
        calls,
        denied,
        failed,
        masked,
        connections,
        executable,
        executable_sha256,
    }
}

pub(crate) fn summary_from(summary: v1::SessionSummary) -> Result<SessionSummary, ProtoError> {
    Ok(SessionSummary {
        session: SessionId(id_from_bytes("session", &summary.session)?),
        workload: summary.workload,
        stream: summary.stream,
        first_us: summary.first_us,
        last_us: summary.last_us,
        calls: summary.calls,
        denied: summary.denied,
        failed: summary.failed,
        masked: summary.masked,
        connections: summary.connections,
        executable: summary.executable,
        executable_sha256: summary.executable_sha256,
    })
}

pub(crate) fn verify_from(request: v1::VerifyRequest) -> Result<(Option<StreamId>, Option<Head>), ProtoError> {
    let head = match (request.head_seq, request.head_hash) {
        (None, None) => None,
        (Some(seq), Some(hash)) if request.stream.is_some() => Some(Head { seq, hash: hash_from(&hash)? }),
        _ => return Err(ProtoError::Missing("stream, head_seq and head_hash belong together: one of them")),
    };
    Ok((request.stream.map(StreamId), head))
}

pub(crate) fn report_to(report: Report) -> v1::VerifyReply {
    let streams = report.streams.into_iter().map(|stream| v1::StreamReport {
        stream: stream.stream.0,
        records: stream.records,
        first_seq: stream.first_seq,
        last_seq: stream.last.seq,
        head: stream.last.hash.to_vec(),
        fault: stream.fault.map(|fault| v1::ChainFault {
            kind: fault.kind.as_str().to_owned(),
            seq: fault.seq,
            detail: fault.detail,
        }),
    });
    v1::VerifyReply { streams: streams.collect() }
}

pub(crate) fn report_from(reply: v1::VerifyReply) -> Result<Report, ProtoError> {
    let stream = |stream: v1::StreamReport| {
        let fault = stream.fault.map(|fault| {
            Ok::<_, ProtoError>(StreamFault { kind: fault_kind(&fault.kind)?, seq: fault.seq, detail: fault.detail })
        });
        Ok::<_, ProtoError>(StreamReport {
            stream: StreamId(stream.stream),
            records: stream.records,
            first_seq: stream.first_seq,
            last: Head { seq: stream.last_seq, hash: hash_from(&stream.head)? },
            fault: fault.transpose()?,
        })
    };
    Ok(Report { streams: reply.streams.into_iter().map(stream).collect::<Result<_, _>>()? })
}

fn fault_kind(word: &str) -> Result<FaultKind, ProtoError> {
    use FaultKind::{Changed, Gap, Reordered, Truncated, WrongPrev};
    let kinds = [Gap, Reordered, WrongPrev, Changed, Truncated];
    kinds.into_iter().find(|kind| kind.as_str() == word).ok_or_else(|| unknown("fault", word))
}

fn hash_from(bytes: &[u8]) -> Result<Hash, ProtoError> {
    Hash::try_from(bytes).map_err(|_| ProtoError::Missing("hash of 32 bytes"))
}

fn page(limit: u32) -> usize {
    if limit == 0 { PAGE } else { usize::try_from(limit).unwrap_or(usize::MAX) }
}

fn unknown(field: &'static str, value: &str) -> ProtoError {
    ProtoError::Unknown { field, value: value.chars().take(64).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_survives_the_way() {
        let search = Search {
            filter: Filter {
                stream: Some(StreamId("n/agent".into())),
                workload: Some("run/x".into()),
                session: Some(SessionId::new()),
                call: Some(CallId::new()),
                function: Some("GET".into()),
                verdict: Some(callgate_model::Verdict::Deny),
                reason: Some(callgate_model::Reason::NoPermit),
                kinds: Kind::ALL.to_vec(),
                from_us: Some(1),
                until_us: Some(2),
                text: Some("a".into()),
            },
            limit: 7,
            cursor: "c".into(),
            oldest_first: true,
        };
        assert_eq!(search_from(search_to(&search)).unwrap(), search);
        let mut request = search_to(&search);
        request.filter.as_mut().unwrap().kinds.push("nothing".into());
        assert!(search_from(request).is_err());
    }

    #[test]
    fn a_head_needs_all_its_parts() {
        let whole =
            v1::VerifyRequest { stream: Some("n/agent".into()), head_seq: Some(1), head_hash: Some(vec![1; 32]) };
        assert!(verify_from(whole.clone()).is_ok_and(|(_, head)| head.is_some()));
        assert!(verify_from(v1::VerifyRequest { stream: None, ..whole.clone() }).is_err());
        assert!(verify_from(v1::VerifyRequest { head_hash: None, ..whole }).is_err());
        assert!(verify_from(v1::VerifyRequest::default()).is_ok());
    }
}
