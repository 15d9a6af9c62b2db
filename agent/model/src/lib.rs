//! The vocabulary of Callgate as types: the same words in code, proto, config, metrics and page.
//!
//! No I/O and no behaviour beyond printing and parsing.
//! Start with [`Origin`] (what the kernel attests of a connection), [`Function`] (what is called),
//! [`Decision`] (what policy said) and [`Record`] (what audit keeps).

mod arguments;
mod caller;
mod causes;
mod decision;
mod function;
mod ids;
mod lineage;
mod masking;
mod origin;
mod placement;
mod pod;
mod reason;
mod record;
mod service;
mod workload;

pub use arguments::{Argument, ArgumentKind, Arguments, ArgumentsState, Decimal, Unfit};
pub use caller::Caller;
pub use causes::causes;
pub use decision::{Decision, Obligations, RecordDepth, TlsMode, Verdict};
pub use function::{Function, Protocol};
pub use ids::{CallId, CgroupId, ConnectionId, IdError, NetnsCookie, SessionId, StreamId};
pub use lineage::{Ancestor, Execution, ExecutionId, Lineage, LineageEnd, StartedBy};
pub use masking::{MaskHow, MaskKinds, MaskPlace, MaskWordError, Masking};
pub use origin::{Executed, Monotonic, Origin};
pub use placement::Placement;
pub use pod::Pod;
pub use reason::Reason;
pub use record::{
    AgentRecord, AgentState, CallBegin, CallEnd, Chunk, ConnectionRecord, Direction, DnsRecord, DnsTransport,
    EnrolmentChange, EnrolmentRecord, Header, KernelDenial, KernelEvent, Latency, Outcome, PolicyChange, Record,
    RecordKind, Uninspected,
};
pub use service::{Service, ServiceError};
pub use workload::{Executable, FailMode, Mode, Process, Workload, WorkloadName, WorkloadNameError};
