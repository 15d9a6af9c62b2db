//! The closed lists that exist on both sides, each named once.
//!
//! Adding a value to an enum of the model and not to `callgate.proto` does not compile.

use callgate_model as model;

use crate::{ProtoError, v1};

/// An enum of the model that stands as a number in messages.
pub(crate) trait Word: Sized {
    /// Reads the number.
    fn from_wire(value: i32) -> Result<Self, ProtoError>;
    /// The number.
    fn to_wire(self) -> i32;
}

macro_rules! words {
    ($($name:ident as $field:literal { $($variant:ident),* })*) => {$(
        impl From<model::$name> for v1::$name {
            fn from(value: model::$name) -> Self {
                match value { $(model::$name::$variant => Self::$variant,)* }
            }
        }

        impl TryFrom<v1::$name> for model::$name {
            type Error = ProtoError;
            fn try_from(value: v1::$name) -> Result<Self, ProtoError> {
                match value {
                    $(v1::$name::$variant => Ok(Self::$variant),)*
                    v1::$name::Unspecified => Err(ProtoError::Missing($field)),
                }
            }
        }

        impl Word for model::$name {
            fn from_wire(value: i32) -> Result<Self, ProtoError> {
                v1::$name::try_from(value).map_err(|_| ProtoError::unknown($field, value))?.try_into()
            }
            fn to_wire(self) -> i32 {
                v1::$name::from(self).into()
            }
        }
    )*};
}

words! {
    Protocol as "protocol" { Http, Grpc }
    Verdict as "verdict" { Allow, Deny }
    RecordDepth as "record depth" { Meta, Head, Full }
    TlsMode as "TLS mode" { Inspect, Passthrough }
    Direction as "direction" { Request, Response }
    Outcome as "outcome" { Complete, Refused, Cut, Interrupted }
    Uninspected as "why it is uninspected" { Policy, CertificateRefused, UpstreamTls, Protocol }
    LineageEnd as "end of the lineage" { Entry, Cut, Unknown }
    EnrolmentChange as "enrolment change" { Enrolled, Resumed, Unenrolled }
    KernelEvent as "kernel event" {
        Stale, NoListener, Udp, Protocol, Egress, OwnPort, Foreign, Family, Severed, Unclassified, Dot
    }
    DnsTransport as "DNS transport" { Udp, Tcp }
    AgentState as "agent state" { Started, Stopped, Alarm }
    Mode as "mode" { Enforce, Observe }
}
