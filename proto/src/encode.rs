//! From the vocabulary to messages. Never fails.

use callgate_model as model;
use prost::Message as _;

use crate::v1;
use crate::words::Word as _;

/// The bytes of a record, as they are sealed.
#[must_use]
pub fn encode_record(record: &model::Record) -> Vec<u8> {
    v1::Record::from(record.clone()).encode_to_vec()
}

/// Appends the bytes of a record to `out`, its time still to be given by [`stamp`]: for the recorder, which encodes
/// before it takes its lock and knows the time only within.
pub fn encode_unstamped(kind: model::RecordKind, out: &mut Vec<u8>) {
    // Any time but 0, which would be left out of the bytes.
    let message = v1::Record::from(model::Record { time_us: u64::MAX, kind });
    out.reserve(message.encoded_len());
    message.encode_raw(out);
}

/// Writes the time into the bytes that [`encode_unstamped`] appended.
///
/// `time_us` is the first field of a record and of fixed width (a tag byte, 8 bytes, little-endian) for this purpose.
/// Bytes that do not begin with it are left alone.
pub fn stamp(body: &mut [u8], time_us: u64) {
    const FIXED64_FIELD_1: u8 = 1 << 3 | 1;
    if let Some((&mut FIXED64_FIELD_1, rest)) = body.split_first_mut()
        && let Some(time) = rest.first_chunk_mut::<8>()
    {
        *time = time_us.to_le_bytes();
    }
}

impl From<model::Record> for v1::Record {
    fn from(record: model::Record) -> Self {
        use model::RecordKind as From;
        use v1::record::Kind as To;
        let kind = match record.kind {
            From::Begin(begin) => To::Begin((*begin).into()),
            From::Chunk(chunk) => To::Chunk(chunk.into()),
            From::End(end) => To::End((*end).into()),
            From::Connection(connection) => To::Connection((*connection).into()),
            From::Enrolment(enrolment) => To::Enrolment(enrolment.into()),
            From::KernelDenial(denial) => To::KernelDenial(denial.into()),
            From::Policy(change) => To::Policy(change.into()),
            From::Agent(agent) => To::Agent(agent.into()),
            From::Dns(dns) => To::Dns((*dns).into()),
        };
        Self { time_us: record.time_us, kind: Some(kind) }
    }
}

impl From<model::CallBegin> for v1::CallBegin {
    fn from(begin: model::CallBegin) -> Self {
        Self {
            call: begin.call.0.into_bytes().to_vec(),
            connection: begin.connection.0.into_bytes().to_vec(),
            session: begin.session.0.into_bytes().to_vec(),
            workload: begin.workload,
            cgroup: begin.cgroup.0,
            cgroup_path: begin.cgroup_path,
            process: Some(begin.process.into()),
            function: Some(begin.function.into()),
            destination: begin.destination,
            query: begin.query,
            headers: headers(begin.headers),
            decision: Some(begin.decision.into()),
            observed: begin.observed,
            caller: begin.caller.map(|caller| v1::Caller { sub: caller.sub, iss: caller.iss, groups: caller.groups }),
        }
    }
}

impl From<model::Chunk> for v1::Chunk {
    fn from(chunk: model::Chunk) -> Self {
        Self {
            call: chunk.call.0.into_bytes().to_vec(),
            direction: chunk.direction.to_wire(),
            offset: chunk.offset,
            data: chunk.data,
        }
    }
}

impl From<model::CallEnd> for v1::CallEnd {
    fn from(end: model::CallEnd) -> Self {
        Self {
            call: end.call.0.into_bytes().to_vec(),
            outcome: end.outcome.to_wire(),
            reason: end.reason.as_str().into(),
            status: end.status.into(),
            headers: headers(end.headers),
            request_bytes: end.request_bytes,
            response_bytes: end.response_bytes,
            request_sha256: end.request_sha256,
            response_sha256: end.response_sha256,
            cut: end.cut,
            masked: end.masked,
            latency: Some(v1::Latency {
                decide_us: end.latency.decide_us,
                upstream_us: end.latency.upstream_us,
                body_us: end.latency.body_us,
            }),
        }
    }
}

impl From<model::ConnectionRecord> for v1::ConnectionRecord {
    fn from(connection: model::ConnectionRecord) -> Self {
        Self {
            connection: connection.connection.0.into_bytes().to_vec(),
            session: connection.session.0.into_bytes().to_vec(),
            workload: connection.workload,
            process: Some(connection.process.into()),
            destination: connection.destination,
            service: connection.service.map(|service| service.to_string()),
            decision: connection.decision.map(Into::into),
            inspected: connection.inspected,
            uninspected: connection.uninspected.map(|why| why.to_wire()),
            outcome: connection.outcome.to_wire(),
            reason: connection.reason.as_str().into(),
            calls: connection.calls,
            bytes_in: connection.bytes_in,
            bytes_out: connection.bytes_out,
            duration_us: connection.duration_us,
        }
    }
}

impl From<model::EnrolmentRecord> for v1::EnrolmentRecord {
    fn from(enrolment: model::EnrolmentRecord) -> Self {
        Self {
            change: enrolment.change.to_wire(),
            workload: enrolment.workload,
            cgroup: enrolment.cgroup.0,
            cgroup_path: enrolment.cgroup_path,
            weakened: enrolment.weakened,
        }
    }
}

impl From<model::KernelDenial> for v1::KernelDenial {
    fn from(denial: model::KernelDenial) -> Self {
        Self {
            event: denial.event.to_wire(),
            workload: denial.workload,
            cgroup: denial.cgroup.0,
            netns: denial.netns.0,
            pid: denial.pid,
            uid: denial.uid,
            destination: denial.destination,
            family: denial.family,
            socket_type: denial.socket_type,
            protocol: denial.protocol,
            observed: denial.observed,
            cgroup_path: denial.cgroup_path,
        }
    }
}

impl From<model::PolicyChange> for v1::PolicyChange {
    fn from(change: model::PolicyChange) -> Self {
        Self { policy_set: change.policy_set, policies: change.policies, refused: change.refused }
    }
}

impl From<model::DnsRecord> for v1::DnsRecord {
    fn from(dns: model::DnsRecord) -> Self {
        Self {
            workload: dns.workload,
            session: dns.session.map(|session| session.0.into_bytes().to_vec()),
            process: Some(dns.process.into()),
            destination: dns.destination,
            transport: dns.transport.to_wire(),
            name: dns.name,
            query_type: dns.query_type,
            rcode: dns.rcode,
            answers: dns.answers,
            stripped: dns.stripped,
            reason: dns.reason.as_str().into(),
            observed: dns.observed,
            left_out: dns.left_out,
            duration_us: dns.duration_us,
        }
    }
}

impl From<model::AgentRecord> for v1::AgentRecord {
    fn from(agent: model::AgentRecord) -> Self {
        Self { state: agent.state.to_wire(), version: agent.version, detail: agent.detail }
    }
}

impl From<model::Process> for v1::Process {
    fn from(process: model::Process) -> Self {
        Self {
            pid: process.pid,
            start_time: process.start_time,
            uid: process.uid,
            gid: process.gid,
            executable: process.executable.map(|executable| v1::Executable {
                path: executable.path,
                device: executable.device,
                inode: executable.inode,
                sha256: executable.sha256,
            }),
            lineage: (process.lineage != model::Lineage::default()).then(|| process.lineage.into()),
            placement: (process.placement != model::Placement::default()).then(|| v1::Placement {
                cgroup_path: process.placement.cgroup_path.to_string_lossy().into_owned(),
                unit: process.placement.unit,
                pod_uid: process.placement.pod_uid,
                container_id: process.placement.container_id,
                pod: process.placement.pod.map(Into::into),
            }),
        }
    }
}

impl From<model::Pod> for v1::Pod {
    fn from(pod: model::Pod) -> Self {
        let model::Pod { namespace, name, service_account, container, image, group, labels } = pod;
        Self { namespace, name, service_account, container, image, group, labels: labels.into_iter().collect() }
    }
}

impl From<model::Lineage> for v1::Lineage {
    fn from(lineage: model::Lineage) -> Self {
        let ancestor = |ancestor: model::Ancestor| v1::Ancestor {
            pid: ancestor.pid,
            start_time: ancestor.start_time,
            path: ancestor.path,
            device: ancestor.device,
            inode: ancestor.inode,
            sha256: ancestor.sha256,
        };
        Self { ancestors: lineage.ancestors.into_iter().map(ancestor).collect(), end: lineage.end.to_wire() }
    }
}

impl From<model::Function> for v1::Function {
    fn from(function: model::Function) -> Self {
        Self {
            protocol: function.protocol.to_wire(),
            service: function.service.to_string(),
            tls: function.tls,
            method: function.method,
            path: function.path,
        }
    }
}

impl From<model::Decision> for v1::Decision {
    fn from(decision: model::Decision) -> Self {
        Self {
            verdict: decision.verdict.to_wire(),
            reason: decision.reason.as_str().into(),
            policies: decision.policies,
            policy_set: decision.policy_set,
            obligations: Some(v1::Obligations {
                mask: decision.obligations.mask.kinds().0,
                record: decision.obligations.record.to_wire(),
                tls: decision.obligations.tls.to_wire(),
            }),
        }
    }
}

fn headers(headers: Vec<model::Header>) -> Vec<v1::Header> {
    headers.into_iter().map(|header| v1::Header { name: header.name, value: header.value }).collect()
}
