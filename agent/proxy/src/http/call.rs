//! Carries one call: read, decide, record, forward, mask.
//!
//! The order is the invariant: the decision, then `begin` in the page cache, then the first byte upstream.

use std::sync::Arc;
use std::time::Instant;

use callgate_mask::{Rules, mask_form, mask_text_by};
use callgate_model::{CallBegin, CallId, Caller, Decision, Function, Outcome, Protocol, Reason, Verdict};
use callgate_policy::{CallPermit, ConnectPermit};
use http::{Request, Response, StatusCode, Uri};
use hyper::body::{Body as _, Incoming};
use tracing::{debug, error};

use super::body::{self, RequestBody, ResponseBody};
use super::call_log::{About, CallLog};
use super::judge::Asked;
use super::pipe::Pipe;
use super::upload::Upload;
use super::upstream::Errand;
use super::{CutOff, Http, forward, grpc, upgrade};
use crate::Tally;
use crate::refuse::Refusal;

/// Serves one request of the connection `http`.
///
/// # Errors
/// [`CutOff`] where the caller must not be given a complete answer.
/// # Cancel safety
/// Dropping the future ends the call's record as cut off.
pub(crate) async fn serve(http: Arc<Http>, request: Request<Incoming>) -> Result<Response<ResponseBody>, CutOff> {
    let started = Instant::now();
    let connection = &http.connection;
    connection.count_call();
    let call = CallId::new();
    let mut asked = http.judge.read(&request);
    let (head, mut body) = request.map(Upload::new).into_parts();
    http.judge.identify(&mut asked, &head.headers).await;
    let judged = http.judge.decide(call, &mut asked, &head.headers, &mut body).await;
    let request = Request::from_parts(head, body);
    let mask = connection.gate.masks.for_call(&judged.decision.obligations.mask);
    let mut decision = judged.decision;
    let mut permits = judged.permits;
    let opaque = asked.function.protocol == Protocol::Grpc || upgrade::wanted(&request);
    if opaque && mask.rules.is_some() && permits.is_some() {
        // Bytes after an upgrade pass unopened, messages of gRPC undecoded: a promise to mask them could not be kept.
        decision = Decision { verdict: Verdict::Deny, reason: Reason::Unmaskable, ..decision };
        permits = None;
    }
    connection.gate.metrics.call(asked.function.protocol, decision.verdict, decision.reason);
    if decision.verdict == Verdict::Deny && permits.is_some() {
        Tally::add(&connection.tally.observed, 1);
    }
    let begin = begin(&http, call, &asked, &request, &decision, &mask.recorded);
    let traces = connection.gate.traces.as_ref();
    let trace = traces.and_then(|traces| traces.begin(&begin, request.headers(), started));
    let open = match connection.gate.recorder.begin(begin) {
        Ok(open) => open,
        Err(error) => {
            error!(%error, %call, "a call is refused because it cannot be recorded");
            connection.count_refused(Reason::AuditUnavailable);
            return Ok(own(&asked.function, &Refusal::because(call, Reason::AuditUnavailable, &[])));
        }
    };
    let upgrading = upgrade::wanted(&request);
    let reading = forward::reading(request.headers());
    let about = About { protocol: asked.function.protocol, verdict: decision.verdict, trace };
    let log = Arc::new(CallLog::new(open, reading, mask, started, Arc::clone(connection), about));
    let response = match permits {
        Some((connect, permit)) => match &*connect {
            Ok(connect) => carry(&http, connect, permit, asked, request, &log).await,
            Err(refused) => {
                request.body().record(&log);
                body::discard(http.version, request.into_body());
                refuse(&log, call, &asked.function, refused)
            }
        },
        None => {
            request.body().record(&log);
            body::discard(http.version, request.into_body());
            refuse(&log, call, &asked.function, &decision)
        }
    };
    if upgrading && let Some(control) = &http.control {
        control.upgrade(response.status() == StatusCode::SWITCHING_PROTOCOLS);
    }
    Ok(response)
}

/// Forwards a permitted call and gives back the head of its answer; the bodies follow by themselves.
async fn carry(
    http: &Arc<Http>,
    connect: &ConnectPermit,
    permit: CallPermit,
    asked: Asked,
    mut request: Request<Upload>,
    log: &Arc<CallLog>,
) -> Response<ResponseBody> {
    let call = permit.call();
    let function = &asked.function;
    let failed = |reason| failed(log, call, function, reason);
    let mask = log.mask();
    let upgrading = upgrade::wanted(&request).then(|| hyper::upgrade::on(&mut request));
    let upgrade_to = upgrading.as_ref().and_then(|_| request.headers().get(http::header::UPGRADE).cloned());
    let (mut head, body) = request.into_parts();
    let Ok(target) = target(&asked) else { return failed(Reason::BadHead) };
    head.uri = target;
    head.extensions.clear();
    if let Some(strip) = asked.caller.as_ref().and_then(|caller| caller.strip.as_ref()) {
        head.headers.remove(strip);
    }
    forward::request_headers(&mut head.headers, mask.rules.is_some());
    if function.protocol == Protocol::Grpc {
        grpc::uncompressed(&mut head.headers);
    }
    if let Some(protocol) = upgrade_to {
        upgrade::ask(&mut head.headers, protocol);
    }
    log.trace(&mut head.headers);
    let request = Request::from_parts(head, RequestBody::new(body, Arc::clone(log)));
    let errand = Errand { connection: &http.connection, connect, channel: http.judge.channel(), client: http.version };
    let response = match http.upstream.send(&errand, permit, request).await {
        Ok(response) => response,
        Err(reason) => return failed(reason),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return match upgrading {
            Some(client) => upgrade::switch(client, response, Arc::clone(log)),
            None => failed(Reason::UpstreamProtocol),
        };
    }
    if forward::is_transfer_coded(response.headers()) {
        debug!(%call, "an answer in a coding that nobody asked for is refused");
        return failed(Reason::UpstreamProtocol);
    }
    let reading = forward::reading(response.headers());
    let hidden = reading.is_none() || grpc::has_messages(response.headers());
    if mask.rules.is_some() && (hidden || forward::is_piece(response.status(), response.headers())) {
        debug!(%call, status = %response.status(), "an answer that cannot be masked is refused");
        return failed(Reason::Unmaskable);
    }
    let (mut head, body) = response.into_parts();
    let pipe = match (&mask.rules, reading) {
        (Some(rules), Some(reading)) if !body.is_end_stream() => match Pipe::new(rules, &mask.places, reading) {
            Ok(pipe) => Some(pipe),
            Err(reason) => return failed(reason),
        },
        _ => None,
    };
    head.extensions.clear();
    head.version = http::Version::default();
    let clean = forward::response_headers(&mut head.headers, mask.rules.as_ref());
    log.answered(head.status.as_u16(), forward::recorded_answer(&head.headers, mask, clean), reading);
    Response::from_parts(head, ResponseBody::relayed(body, pipe, Arc::clone(log)))
}

/// Where a call goes: the authority as the caller wrote it, canonical path, the query as it came.
fn target(asked: &Asked) -> Result<Uri, http::Error> {
    let Asked { function, authority, query, .. } = asked;
    let target = Uri::builder().scheme(if function.tls { "https" } else { "http" }).authority(authority.as_str());
    if query.is_empty() {
        return target.path_and_query(function.path.as_str()).build();
    }
    target.path_and_query(format!("{}?{query}", function.path)).build()
}

fn begin(
    http: &Http,
    call: CallId,
    asked: &Asked,
    request: &Request<Upload>,
    decision: &Decision,
    rules: &Arc<Rules>,
) -> CallBegin {
    let connection = &http.connection;
    let mut function = asked.function.clone();
    function.path = mask_text_by(rules, &function.path).into_owned();
    CallBegin {
        call,
        connection: connection.id,
        session: connection.session,
        workload: connection.workload.id.clone(),
        cgroup: connection.origin.cgroup,
        cgroup_path: connection.workload.cgroup_path.display().to_string(),
        process: connection.process.clone(),
        function,
        destination: connection.origin.destination.to_string(),
        query: mask_text_by(rules, &mask_form(rules, &asked.query)).into_owned(),
        headers: forward::recorded(request.headers(), rules, connection.gate.issuers.headers()),
        decision: decision.clone(),
        observed: connection.observes(),
        caller: asked.caller.as_ref().map(|identified| Caller::clone(&identified.caller)),
    }
}

/// Refuses a call by `decision`.
fn refuse(log: &CallLog, call: CallId, function: &Function, decision: &Decision) -> Response<ResponseBody> {
    let response = own(function, &Refusal::new(call, decision));
    log.answered(response.status().as_u16(), Vec::new(), None);
    log.finish(Outcome::Refused, decision.reason);
    log.connection().count_refused(decision.reason);
    response
}

/// Tells the caller that a permitted call failed on its way.
fn failed(log: &CallLog, call: CallId, function: &Function, reason: Reason) -> Response<ResponseBody> {
    let response = own(function, &Refusal::because(call, reason, &[]));
    log.answered(response.status().as_u16(), Vec::new(), None);
    log.finish(Outcome::Cut, reason);
    Tally::add(&log.connection().tally.failed, 1);
    response
}

/// An answer of ours, in the form of the function's protocol.
fn own(function: &Function, refusal: &Refusal<'_>) -> Response<ResponseBody> {
    match function.protocol {
        Protocol::Http => refusal.to_http().map(|body| ResponseBody::Own(Some(body))),
        Protocol::Grpc => refusal.to_grpc().map(|()| ResponseBody::Own(None)),
    }
}
