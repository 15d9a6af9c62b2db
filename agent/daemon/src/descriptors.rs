//! Room for connections: each takes two descriptors, and the usual limit of 1,024 would end the service at 500.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Descriptors beside those of connections: the spool, maps and links, listeners, the control socket.
const OTHERS: u64 = 1024;

/// Raises this process's limit of open files so far that `connections` fit; warns where it cannot.
///
/// For a process that starts no other: children would inherit it, and programs that use `select` break above 1,024.
pub fn make_room(connections: usize) {
    let wanted = connections as u64 * 2 + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if enough(limit.current) {
        return;
    }
    let maximum = if enough(limit.maximum) { limit.maximum } else { Some(wanted) };
    if setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok() {
        return;
    }
    // Not ours to raise: at least all of what there is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    warn!(wanted, maximum = limit.maximum, "the limit of open files is too low for `connections_max`");
}
