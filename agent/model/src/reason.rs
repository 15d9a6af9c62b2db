//! Why something was decided: one closed list that logs, metrics, audit, refusals and page share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $text:literal, $help:literal;)*) => {
        /// Why a connect or a call got its verdict, or a connection its end.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word used in records, metrics and refusals.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// One sentence for the caller: what happened and whom to ask. Never a policy's text.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }

        impl FromStr for Reason {
            type Err = ();
            fn from_str(text: &str) -> Result<Self, ()> {
                match text { $($text => Ok(Self::$variant),)* _ => Err(()) }
            }
        }
    };
}

reasons! {
    /// A permit holds and no forbid does.
    Permitted = "permitted", "The call is permitted.";
    /// No permit matches.
    NoPermit = "no_permit", "No policy permits this call; ask the owner of the policies of this node.";
    /// A forbid matches.
    Forbidden = "forbidden", "A policy forbids this call; ask the owner of the policies of this node.";
    /// A policy failed to evaluate.
    EvaluationError = "evaluation_error", "A policy could not be evaluated, so the call is refused; ask the owner of the policies of this node.";
    /// A rule names arguments of the call, and these are incomplete, ambiguous or of another kind.
    ArgumentsUnfit = "arguments_unfit", "The arguments of this call cannot be judged for certain, so it is refused; send each once, as JSON of the expected types.";
    /// There is no policy set to ask.
    NoPolicy = "no_policy", "No policy is loaded, so every call is refused; ask the operator of this node.";
    /// The head of a request breaks the framing rules.
    BadHead = "bad_head", "The request is malformed or ambiguous and was not forwarded.";
    /// Host, `:authority`, SNI and the dialled address do not agree, or the name could not be proven.
    NameMismatch = "name_mismatch", "The name that was asked for is not proven to live at the address that was dialled.";
    /// The upstream's certificate is not valid for the name.
    UpstreamCertificate = "upstream_certificate", "The certificate of the called service is not valid for its name.";
    /// The upstream could not be reached.
    UpstreamUnreachable = "upstream_unreachable", "The called service could not be reached.";
    /// The upstream broke off or broke the protocol.
    UpstreamProtocol = "upstream_protocol", "The called service broke off or answered with a malformed message.";
    /// The workload did not complete its TLS handshake with us.
    ClientTls = "client_tls", "The TLS handshake of the caller failed; does it trust the CA of Callgate?";
    /// A token was presented to name the caller, and does not verify.
    CallerUnverified = "caller_unverified", "The token that names the caller could not be verified; renew it, or ask the operator of this node which issuers are trusted.";
    /// First bytes of no protocol that we decode.
    ProtocolUnknown = "protocol_unknown", "The protocol is not one that Callgate decodes, and no connect policy permits it.";
    /// A part of a protocol that we do not carry.
    ProtocolUnsupported = "protocol_unsupported", "This part of the protocol is not carried by Callgate.";
    /// The destination is one of our own ports.
    OwnPort = "own_port", "The destination is a port of Callgate itself.";
    /// Private, link-local or metadata address that no policy names.
    AddressNotNamed = "address_not_named", "Private, link-local and metadata addresses are refused unless a policy names the address.";
    /// The response cannot be masked as the policy demands.
    Unmaskable = "unmaskable", "The response cannot be masked as the policy demands, so it was cut off.";
    /// The audit spool cannot take the record.
    AuditUnavailable = "audit_unavailable", "The call cannot be recorded, so it is refused; ask the operator of this node.";
    /// A limit of this node is reached.
    LimitReached = "limit_reached", "A limit of this node is reached; try again later.";
    /// The caller closed or broke the connection.
    ClientGone = "client_gone", "The caller broke off.";
    /// The agent died during the call, which the next start closed.
    Interrupted = "interrupted", "The agent was stopped during the call.";
    /// A question of DNS whose name is fit to carry data away: too long, a label too long, or too random.
    DnsName = "dns_name", "The name asked for is too long or too random for a name, so it was not looked up.";
    /// A question of DNS that is malformed, or of a kind that is not answered.
    DnsQuestion = "dns_question", "The DNS question is malformed or of a kind that is not answered here.";
    /// The agent is shutting down.
    ShuttingDown = "shutting_down", "The agent is shutting down.";
    /// The kernel has no record of where the connection was going.
    NoOrigin = "no_origin", "No original destination is known for the connection.";
    /// A bug of ours: refused, never passed.
    Internal = "internal", "Callgate failed, so the call is refused; ask the operator of this node.";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_serde_and_parse_agree() {
        for &reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
