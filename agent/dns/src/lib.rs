//! The resolver of enrolled workloads: judges questions, asks the host's resolvers, and takes out of answers what would
//! lead around the gate.
//!
//! [`Resolver::answer`] turns the bytes of a question into those of an answer, and says what it did. It never reads a
//! workload's socket, never attests and never records: `callgate-proxy` does. Nothing of a question goes upstream but
//! its name (in lower case), its type and two flags; so neither options nor the case of letters carry data out.
//!
//! | in the file | what |
//! | --- | --- |
//! | `question` | what is a question that is answered, and what is refused |
//! | `names` | names that are fit to carry data away |
//! | `budget` | how often one workload may ask |
//! | `upstreams`, `forward` | whom to ask, and asking |
//! | `cache` | what was answered a moment ago |
//! | `strip` | `ech` and HTTP/3 out of HTTPS and SVCB records |
//! | `reply` | the answer's bytes, their size, truncation |

mod budget;
mod cache;
mod forward;
mod metrics;
mod names;
mod question;
mod reply;
mod resolver;
mod settings;
mod strip;
mod upstreams;

pub use question::{Question, Read, read};
pub use resolver::{Answered, Asked, Resolver};
pub use settings::{Settings, UnfitSettings};
pub use strip::strip;
pub use upstreams::{Upstreams, nameservers};

/// The port of DNS, over UDP and TCP. Source: RFC 1035 §4.2.
pub const PORT: u16 = 53;
