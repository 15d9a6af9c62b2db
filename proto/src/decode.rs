//! From messages to the vocabulary. What this version does not know is an error, never a default.

use callgate_model as model;
use prost::Message as _;
use uuid::Uuid;

use crate::words::Word as _;
use crate::{ProtoError, v1};

/// Reads the body of a sealed record.
///
/// # Errors
/// [`ProtoError`] if the bytes are no record, a field is missing, or a value is outside of its closed list.
pub fn decode_record(bytes: &[u8]) -> Result<model::Record, ProtoError> {
    v1::Record::decode(bytes)?.try_into()
}

/// Reads an id of any kind: `id_from_bytes("call", bytes).map(CallId)`.
///
/// # Errors
/// [`ProtoError::BadId`] if it is not 16 bytes long.
pub fn id_from_bytes(field: &'static str, bytes: &[u8]) -> Result<Uuid, ProtoError> {
    Uuid::from_slice(bytes).map_err(|_| ProtoError::BadId(field))
}

impl TryFrom<v1::Record> for model::Record {
    type Error = ProtoError;
    fn try_from(record: v1::Record) -> Result<Self, ProtoError> {
        use model::RecordKind as To;
        use v1::record::Kind as From;
        let kind = match required("kind", record.kind)? {
            From::Begin(begin) => To::Begin(Box::new(begin.try_into()?)),
            From::Chunk(chunk) => To::Chunk(chunk.try_into()?),
            From::End(end) => To::End(Box::new(end.try_into()?)),
            From::Connection(connection) => To::Connection(Box::new(connection.try_into()?)),
            From::Enrolment(enrolment) => To::Enrolment(enrolment.try_into()?),
            From::KernelDenial(denial) => To::KernelDenial(denial.try_into()?),
            From::Policy(change) => To::Policy(model::PolicyChange {
                policy_set: change.policy_set,
                policies: change.policies,
                refused: change.refused,
            }),
            From::Dns(dns) => To::Dns(Box::new(dns.try_into()?)),
            From::Agent(agent) => To::Agent(model::AgentRecord {
                state: model::AgentState::from_wire(agent.state)?,
                version: agent.version,
                detail: agent.detail,
            }),
        };
        Ok(Self { time_us: record.time_us, kind })
    }
}

impl TryFrom<v1::CallBegin> for model::CallBegin {
    type Error = ProtoError;
    fn try_from(begin: v1::CallBegin) -> Result<Self, ProtoError> {
        Ok(Self {
            call: model::CallId(id_from_bytes("call", &begin.call)?),
            connection: model::ConnectionId(id_from_bytes("connection", &begin.connection)?),
            session: model::SessionId(id_from_bytes("session", &begin.session)?),
            workload: begin.workload,
            cgroup: model::CgroupId(begin.cgroup),
            cgroup_path: begin.cgroup_path,
            process: required("process", begin.process)?.try_into()?,
            function: required("function", begin.function)?.try_into()?,
            destination: begin.destination,
            query: begin.query,
            headers: headers(begin.headers),
            decision: required("decision", begin.decision)?.try_into()?,
            observed: begin.observed,
            caller: begin.caller.map(|caller| model::Caller {
                sub: caller.sub,
                iss: caller.iss,
                groups: caller.groups,
            }),
        })
    }
}

impl TryFrom<v1::Chunk> for model::Chunk {
    type Error = ProtoError;
    fn try_from(chunk: v1::Chunk) -> Result<Self, ProtoError> {
        if chunk.data.len() > Self::MAX {
            return Err(ProtoError::TooLarge("data"));
        }
        Ok(Self {
            call: model::CallId(id_from_bytes("call", &chunk.call)?),
            direction: model::Direction::from_wire(chunk.direction)?,
            offset: chunk.offset,
            data: chunk.data,
        })
    }
}

impl TryFrom<v1::CallEnd> for model::CallEnd {
    type Error = ProtoError;
    fn try_from(end: v1::CallEnd) -> Result<Self, ProtoError> {
        let latency = required("latency", end.latency)?;
        Ok(Self {
            call: model::CallId(id_from_bytes("call", &end.call)?),
            outcome: model::Outcome::from_wire(end.outcome)?,
            reason: reason(&end.reason)?,
            status: end.status.try_into().map_err(|_| ProtoError::TooLarge("status"))?,
            headers: headers(end.headers),
            request_bytes: end.request_bytes,
            response_bytes: end.response_bytes,
            request_sha256: end.request_sha256,
            response_sha256: end.response_sha256,
            cut: end.cut,
            masked: end.masked,
            latency: model::Latency {
                decide_us: latency.decide_us,
                upstream_us: latency.upstream_us,
                body_us: latency.body_us,
            },
        })
    }
}

impl TryFrom<v1::ConnectionRecord> for model::ConnectionRecord {
    type Error = ProtoError;
    fn try_from(connection: v1::ConnectionRecord) -> Result<Self, ProtoError> {
        Ok(Self {
            connection: model::ConnectionId(id_from_bytes("connection", &connection.connection)?),
            session: model::SessionId(id_from_bytes("session", &connection.session)?),
            workload: connection.workload,
            process: required("process", connection.process)?.try_into()?,
            destination: connection.destination,
            service: connection.service.map(|text| service(&text)).transpose()?,
            decision: connection.decision.map(TryInto::try_into).transpose()?,
            inspected: connection.inspected,
            uninspected: connection.uninspected.map(model::Uninspected::from_wire).transpose()?,
            outcome: model::Outcome::from_wire(connection.outcome)?,
            reason: reason(&connection.reason)?,
            calls: connection.calls,
            bytes_in: connection.bytes_in,
            bytes_out: connection.bytes_out,
            duration_us: connection.duration_us,
        })
    }
}

impl TryFrom<v1::EnrolmentRecord> for model::EnrolmentRecord {
    type Error = ProtoError;
    fn try_from(enrolment: v1::EnrolmentRecord) -> Result<Self, ProtoError> {
        Ok(Self {
            change: model::EnrolmentChange::from_wire(enrolment.change)?,
            workload: enrolment.workload,
            cgroup: model::CgroupId(enrolment.cgroup),
            cgroup_path: enrolment.cgroup_path,
            weakened: enrolment.weakened,
        })
    }
}

impl TryFrom<v1::KernelDenial> for model::KernelDenial {
    type Error = ProtoError;
    fn try_from(denial: v1::KernelDenial) -> Result<Self, ProtoError> {
        Ok(Self {
            event: model::KernelEvent::from_wire(denial.event)?,
            workload: denial.workload,
            cgroup: model::CgroupId(denial.cgroup),
            netns: model::NetnsCookie(denial.netns),
            pid: denial.pid,
            uid: denial.uid,
            destination: denial.destination,
            family: denial.family,
            socket_type: denial.socket_type,
            protocol: denial.protocol,
            observed: denial.observed,
            cgroup_path: denial.cgroup_path,
        })
    }
}

impl TryFrom<v1::DnsRecord> for model::DnsRecord {
    type Error = ProtoError;
    fn try_from(dns: v1::DnsRecord) -> Result<Self, ProtoError> {
        Ok(Self {
            workload: dns.workload,
            session: dns.session.map(|id| id_from_bytes("session", &id).map(model::SessionId)).transpose()?,
            process: required("process", dns.process)?.try_into()?,
            destination: dns.destination,
            transport: model::DnsTransport::from_wire(dns.transport)?,
            name: dns.name,
            query_type: dns.query_type,
            rcode: dns.rcode,
            answers: dns.answers,
            stripped: dns.stripped,
            reason: reason(&dns.reason)?,
            observed: dns.observed,
            left_out: dns.left_out,
            duration_us: dns.duration_us,
        })
    }
}

impl TryFrom<v1::Process> for model::Process {
    type Error = ProtoError;
    fn try_from(process: v1::Process) -> Result<Self, ProtoError> {
        Ok(Self {
            pid: process.pid,
            start_time: process.start_time,
            uid: process.uid,
            gid: process.gid,
            executable: process.executable.map(|executable| model::Executable {
                path: executable.path,
                device: executable.device,
                inode: executable.inode,
                sha256: executable.sha256,
            }),
            // Records of older agents have neither.
            lineage: process.lineage.map(TryInto::try_into).transpose()?.unwrap_or_default(),
            placement: process.placement.map_or_else(model::Placement::default, |placement| model::Placement {
                cgroup_path: placement.cgroup_path.into(),
                unit: placement.unit,
                pod_uid: placement.pod_uid,
                container_id: placement.container_id,
                pod: placement.pod.map(Into::into),
            }),
        })
    }
}

impl TryFrom<v1::Lineage> for model::Lineage {
    type Error = ProtoError;
    fn try_from(lineage: v1::Lineage) -> Result<Self, ProtoError> {
        let ancestor = |ancestor: v1::Ancestor| model::Ancestor {
            pid: ancestor.pid,
            start_time: ancestor.start_time,
            path: ancestor.path,
            device: ancestor.device,
            inode: ancestor.inode,
            sha256: ancestor.sha256,
        };
        Ok(Self {
            ancestors: lineage.ancestors.into_iter().map(ancestor).collect(),
            end: model::LineageEnd::from_wire(lineage.end)?,
        })
    }
}

impl From<v1::Pod> for model::Pod {
    fn from(pod: v1::Pod) -> Self {
        let v1::Pod { namespace, name, service_account, container, image, group, labels } = pod;
        Self { namespace, name, service_account, container, image, group, labels: labels.into_iter().collect() }
    }
}

impl TryFrom<v1::Function> for model::Function {
    type Error = ProtoError;
    fn try_from(function: v1::Function) -> Result<Self, ProtoError> {
        Ok(Self {
            protocol: model::Protocol::from_wire(function.protocol)?,
            service: service(&function.service)?,
            tls: function.tls,
            method: function.method,
            path: function.path,
        })
    }
}

impl TryFrom<v1::Decision> for model::Decision {
    type Error = ProtoError;
    fn try_from(decision: v1::Decision) -> Result<Self, ProtoError> {
        let obligations = required("obligations", decision.obligations)?;
        Ok(Self {
            verdict: model::Verdict::from_wire(decision.verdict)?,
            reason: reason(&decision.reason)?,
            policies: decision.policies,
            policy_set: decision.policy_set,
            obligations: model::Obligations {
                // A record says which kinds, not how.
                mask: model::MaskKinds(obligations.mask).into(),
                record: model::RecordDepth::from_wire(obligations.record)?,
                tls: model::TlsMode::from_wire(obligations.tls)?,
            },
        })
    }
}

fn required<T>(field: &'static str, value: Option<T>) -> Result<T, ProtoError> {
    value.ok_or(ProtoError::Missing(field))
}

fn reason(text: &str) -> Result<model::Reason, ProtoError> {
    text.parse().map_err(|()| ProtoError::unknown("reason", text))
}

fn service(text: &str) -> Result<model::Service, ProtoError> {
    text.parse().map_err(|_| ProtoError::unknown("service", text))
}

fn headers(headers: Vec<v1::Header>) -> Vec<model::Header> {
    headers.into_iter().map(|header| model::Header { name: header.name, value: header.value }).collect()
}
