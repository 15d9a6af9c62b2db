//! What audit keeps. Values in records are already masked: whoever makes one masks first.

use serde::{Deserialize, Serialize};

use crate::{
    CallId, Caller, CgroupId, ConnectionId, Decision, Function, NetnsCookie, Process, Reason, Service, SessionId,
};

/// One audit entry, before it is sealed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// When it was made. Unit: microseconds since the Unix epoch, UTC.
    pub time_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: RecordKind,
}

/// The kinds of records.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RecordKind {
    /// A call was decided; written before its first byte goes upstream.
    Begin(Box<CallBegin>),
    /// A piece of a call's body.
    Chunk(Chunk),
    /// A call ended.
    End(Box<CallEnd>),
    /// A connection ended.
    Connection(Box<ConnectionRecord>),
    /// A workload was enrolled or let go.
    Enrolment(EnrolmentRecord),
    /// The kernel refused something.
    KernelDenial(KernelDenial),
    /// A question of DNS was answered or refused.
    Dns(Box<DnsRecord>),
    /// The policy set changed, or a change was refused.
    Policy(PolicyChange),
    /// The agent started, stopped or raised an alarm.
    Agent(AgentRecord),
}

/// The first record of a call: identity, function, decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallBegin {
    /// Joins the records of the call.
    pub call: CallId,
    /// Connection that carried it.
    pub connection: ConnectionId,
    /// Session that it belongs to.
    pub session: SessionId,
    /// Workload's entity id.
    pub workload: String,
    /// The task's cgroup.
    pub cgroup: CgroupId,
    /// Path of the enrolled cgroup below the cgroup v2 mount.
    pub cgroup_path: String,
    /// Process that opened the connection.
    pub process: Process,
    /// What is called.
    pub function: Function,
    /// Address that the workload dialled, `ip:port`.
    pub destination: String,
    /// Query string without the `?`, masked; empty if none.
    pub query: String,
    /// Request headers, masked; credentials are replaced.
    pub headers: Vec<Header>,
    /// What policy said.
    pub decision: Decision,
    /// Whether the verdict was recorded only (observe mode), not enforced.
    pub observed: bool,
    /// On whose behalf, if a token was sent and verified.
    pub caller: Option<Caller>,
}

/// One header field.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Lower-case name.
    pub name: String,
    /// Masked value.
    pub value: String,
}

/// Which way bytes went.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the workload.
    Request,
    /// To the workload.
    Response,
}

/// A piece of a body, at most [`Chunk::MAX`] bytes, masked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Chunk {
    /// The call.
    pub call: CallId,
    /// Which body.
    pub direction: Direction,
    /// Offset of the first byte in the masked body.
    pub offset: u64,
    /// Masked bytes.
    pub data: Vec<u8>,
}

impl Chunk {
    /// Most bytes in one chunk. Unit: bytes. Source: requirement A1.
    pub const MAX: usize = 64 * 1024;
}

/// How a call or a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// To the end.
    Complete,
    /// Refused by us before anything went upstream.
    Refused,
    /// Cut off in the middle: see the reason.
    Cut,
    /// The agent died in the middle; closed by its next start.
    Interrupted,
}

/// Time spent, apart by stage. Unit: microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// From the complete request head to the decision, `begin` written included.
    pub decide_us: u64,
    /// From there to the head of the upstream's answer.
    pub upstream_us: u64,
    /// From there to the last byte given to the caller.
    pub body_us: u64,
}

/// The last record of a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallEnd {
    /// The call.
    pub call: CallId,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not complete; else [`Reason::Permitted`].
    pub reason: Reason,
    /// HTTP status given to the caller; 0 if none was.
    pub status: u16,
    /// Response headers as given to the caller, masked.
    pub headers: Vec<Header>,
    /// Bytes of the request's body that went upstream.
    pub request_bytes: u64,
    /// Bytes of the response's body that the caller was given.
    pub response_bytes: u64,
    /// SHA-256 of the recorded (masked) form of the request's body, hex; empty if there was no body.
    pub request_sha256: String,
    /// SHA-256 of the recorded (masked) form of the response's body, hex; empty if there was no body.
    pub response_sha256: String,
    /// Whether chunks of either body were left out, by `@record`.
    pub cut: bool,
    /// Findings replaced in what the caller got.
    pub masked: u64,
    /// Time spent.
    pub latency: Latency,
}

/// Why the bytes of a connection passed without being decoded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uninspected {
    /// A policy lets its TLS pass unopened: `@tls("passthrough")`.
    Policy,
    /// Observe mode: clients of the workload refused our certificate for the service before, so TLS is not opened.
    CertificateRefused,
    /// Observe mode: the service's TLS could not be opened or verified.
    UpstreamTls,
    /// Its protocol is none that is decoded.
    Protocol,
}

impl Uninspected {
    /// The word used in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::CertificateRefused => "certificate_refused",
            Self::UpstreamTls => "upstream_tls",
            Self::Protocol => "protocol",
        }
    }
}

/// A connection that ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConnectionRecord {
    /// The connection.
    pub connection: ConnectionId,
    /// Its session.
    pub session: SessionId,
    /// Workload's entity id.
    pub workload: String,
    /// Process that opened it.
    pub process: Process,
    /// Address that the workload dialled, `ip:port`.
    pub destination: String,
    /// Service it was judged as, where one was found.
    pub service: Option<Service>,
    /// What policy said of the connect, where it came to that.
    pub decision: Option<Decision>,
    /// Whether calls were decoded; false for passthrough, unknown protocols and connections refused early.
    pub inspected: bool,
    /// Why its bytes passed without being decoded; none where they were, or where nothing passed.
    #[serde(default)]
    pub uninspected: Option<Uninspected>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// Calls on it.
    pub calls: u64,
    /// Bytes read from the workload.
    pub bytes_in: u64,
    /// Bytes written to the workload.
    pub bytes_out: u64,
    /// From accept to close. Unit: microseconds.
    pub duration_us: u64,
}

/// What happened to an enrolment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnrolmentChange {
    /// It began.
    Enrolled,
    /// It was found in the pins after a restart.
    Resumed,
    /// It was ended.
    Unenrolled,
}

/// A change of what is enrolled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EnrolmentRecord {
    /// What happened.
    pub change: EnrolmentChange,
    /// Workload's entity id.
    pub workload: String,
    /// Cgroup.
    pub cgroup: CgroupId,
    /// Path below the cgroup v2 mount.
    pub cgroup_path: String,
    /// What weakens it, by name.
    pub weakened: Vec<String>,
}

/// What the kernel refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelEvent {
    /// No living agent: heartbeat stale.
    Stale,
    /// No listener in the socket's network namespace.
    NoListener,
    /// UDP other than DNS.
    Udp,
    /// A socket of a refused type or protocol.
    Protocol,
    /// A packet that no hook had let through, dropped at egress.
    Egress,
    /// The destination was the gate's own port.
    OwnPort,
    /// Of socket and task, one is of an enrolled cgroup and the other is not.
    Foreign,
    /// A socket of a family or kind that has no hook: not made, or its task was ended.
    Family,
    /// An open connection that no hook had seen: destroyed.
    Severed,
    /// Strict mode stands above the task's cgroup, which is not classified (yet).
    Unclassified,
    /// DNS over TLS: TCP to port 853.
    Dot,
}

/// A refusal by a kernel program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KernelDenial {
    /// What was refused.
    pub event: KernelEvent,
    /// Workload's entity id, where the cgroup is known.
    pub workload: String,
    /// Enrolled cgroup; the task's own where nothing is enrolled; 0 when unknown.
    pub cgroup: CgroupId,
    /// Path of that cgroup below the cgroup v2 mount; empty when unknown.
    #[serde(default)]
    pub cgroup_path: String,
    /// Network namespace.
    pub netns: NetnsCookie,
    /// Process; 0 when the refusal ran outside of a task.
    pub pid: u32,
    /// Its uid.
    pub uid: u32,
    /// Where to, `ip:port`; empty when there was none.
    pub destination: String,
    /// Address family, socket type and protocol numbers as the kernel has them; 0 when unknown.
    pub family: u32,
    /// Socket type.
    pub socket_type: u32,
    /// Protocol.
    pub protocol: u32,
    /// Whether it was reported only (observe mode).
    pub observed: bool,
}

/// How a question of DNS came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DnsTransport {
    /// In a datagram.
    Udp,
    /// On a connection.
    Tcp,
}

/// A question of DNS that the agent answered, or refused to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DnsRecord {
    /// Workload's entity id.
    pub workload: String,
    /// Its session, where it is one of `callgate run`.
    pub session: Option<SessionId>,
    /// Process that asked.
    pub process: Process,
    /// Resolver that the workload asked, `ip:port`; the answer came from the agent.
    pub destination: String,
    /// How it was asked.
    pub transport: DnsTransport,
    /// Name asked for, lower case, masked; empty where no name could be read.
    pub name: String,
    /// Type asked for: `A`, `HTTPS`, `TYPE1234`; empty where none could be read.
    pub query_type: String,
    /// Answer's code: `NOERROR`, `NXDOMAIN`, `REFUSED`.
    pub rcode: String,
    /// Records in the answer.
    pub answers: u32,
    /// Parts of HTTPS and SVCB records that were taken out of it (`ech`, HTTP/3).
    pub stripped: u32,
    /// [`Reason::Permitted`], or why the question was refused.
    pub reason: Reason,
    /// Whether the refusal was recorded only (observe mode).
    pub observed: bool,
    /// Questions of this workload before this one that were answered or refused and, coming too fast, not recorded.
    pub left_out: u64,
    /// From the question to the answer. Unit: microseconds.
    pub duration_us: u64,
}

/// A change of the policy set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PolicyChange {
    /// Hash of the set in force afterwards.
    pub policy_set: String,
    /// Policies in it.
    pub policies: u64,
    /// Why a new set was refused; empty when it was taken.
    pub refused: String,
}

/// What an agent record is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// It serves.
    Started,
    /// It stopped in order.
    Stopped,
    /// Something needs an operator.
    Alarm,
}

/// A record of the agent about itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AgentRecord {
    /// What happened.
    pub state: AgentState,
    /// Version of the agent.
    pub version: String,
    /// One sentence; no secrets.
    pub detail: String,
}
