//! Sockets in the hands of enrolled tasks that were made elsewhere and are connected already, or have no hook at all.
//!
//! They came with a task that entered its cgroup, or were handed in (SCM_RIGHTS, pidfd_getfd). No hook runs for what
//! they send. A connection that an inherited listener accepted is left alone, as every inbound one.

use std::collections::{BTreeMap, HashSet};

use callgate_model::{CgroupId, KernelDenial};
use tracing::warn;

use crate::held::{self, Held};
use crate::kernel::Record;
use crate::look::Eyes;
use crate::{Answer, Older, WardenError, told};

/// What one look at the hands of enrolled tasks came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Connections that were destroyed.
    pub destroyed: Vec<KernelDenial>,
    /// Processes that were ended, with the socket that has no hook.
    pub ended: Vec<KernelDenial>,
    /// Found for the first time, and left: the configuration or the enrolment says so, or the kernel did not obey.
    pub uncovered: Vec<KernelDenial>,
}

impl Eyes {
    /// Looks at all enrolled tasks, or first at those of one process.
    pub fn sweep(&self, pid: Option<u32>) -> Result<Swept, WardenError> {
        let seen = self.sockets.held(pid)?;
        if pid.is_some() && seen.is_empty() {
            return Ok(Swept::default());
        }
        // Which connections came in shows only with every listener known.
        let seen = if pid.is_some() { self.sockets.held(None)? } else { seen };
        let Plan { connected, unhooked } = plan(&seen);
        let mut swept = Swept::default();
        let mut left = Vec::new();
        for (netns, records) in by_netns(connected) {
            let (spared, doomed): (Vec<Record>, Vec<Record>) =
                records.into_iter().partition(|record| self.is_spared(record));
            left.extend(spared);
            let still = match self.destroy(netns, &doomed) {
                Ok(still) => still,
                Err(error) => {
                    warn!(%error, "sockets that were handed in are not destroyed");
                    doomed.clone()
                }
            };
            for record in doomed {
                if still.iter().any(|one| one.cookie == record.cookie) {
                    left.push(record);
                } else {
                    swept.destroyed.push(told::of_socket(&record, CgroupId(record.holder), false));
                }
            }
        }
        for record in unhooked {
            let ended = !self.is_spared(&record) && Held::of(&record).and_then(|held| held.end()).is_ok();
            if ended {
                swept.ended.push(told::of_socket(&record, CgroupId(record.holder), false));
            } else {
                left.push(record);
            }
        }
        swept.uncovered = self.news(left);
        Ok(swept)
    }

    fn is_spared(&self, record: &Record) -> bool {
        let by_netlink = self.netlink == Answer::Report && record.family == libc::AF_NETLINK.cast_unsigned();
        self.older == Older::Report || by_netlink || record.observed != 0
    }

    fn destroy(&self, inode: u32, records: &[Record]) -> Result<Vec<Record>, WardenError> {
        let mut failed = std::io::Error::from(std::io::ErrorKind::NotFound);
        for record in records {
            match held::netns_of(record) {
                Ok(netns) => return self.sockets.destroy(&netns, records),
                Err(error) => failed = error,
            }
        }
        if records.is_empty() {
            return Ok(Vec::new());
        }
        Err(WardenError::Netns { netns: inode.to_string(), source: failed })
    }

    /// Those that were not told of by the last look.
    fn news(&self, left: Vec<Record>) -> Vec<KernelDenial> {
        let mut known = self.known();
        let tell = |record: &Record| told::of_socket(record, CgroupId(record.holder), true);
        let news = left.iter().filter(|record| !known.contains(&record.cookie)).map(tell).collect();
        *known = left.iter().map(|record| record.cookie).collect::<HashSet<u64>>();
        news
    }
}

struct Plan {
    connected: Vec<Record>,
    /// One for each process.
    unhooked: Vec<Record>,
}

fn plan(records: &[Record]) -> Plan {
    let mut plan = Plan { connected: Vec::new(), unhooked: Vec::new() };
    let listeners: Vec<&Record> = records.iter().filter(|record| record.listens()).collect();
    let (mut sockets, mut processes) = (HashSet::new(), HashSet::new());
    for record in records {
        if !record.has_hooks() {
            if processes.insert(record.pid) {
                plan.unhooked.push(*record);
            }
        } else if record.enrolled == 0
            && record.is_connected()
            && !listeners.iter().any(|listener| record.came_in_by(listener))
            && sockets.insert(record.cookie)
        {
            plan.connected.push(*record);
        }
    }
    plan
}

fn by_netns(records: Vec<Record>) -> BTreeMap<u32, Vec<Record>> {
    let mut groups: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
    for record in records {
        groups.entry(record.netns).or_default().push(record);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tests::outbound;
    use crate::kernel::{CLOSE, LISTEN, UDP};

    #[test]
    fn connected_sockets_made_elsewhere_are_found_once_and_those_that_came_in_are_not() {
        let foreign = Record { enrolled: 0, cgroup: 3, holder: 7, pid: 10, fd: 4, ..outbound() };
        let again = Record { pid: 11, fd: 9, ..foreign };
        let listener = Record { cookie: 2, state: LISTEN, source_port: 80, destination_port: 0, ..foreign };
        let accepted = Record { cookie: 3, source_port: 80, ..foreign };
        let idle = Record { cookie: 4, state: CLOSE, ..foreign };
        let datagrams = Record { cookie: 5, socket_type: 2, protocol: UDP, ..foreign };
        let idle_datagrams = Record { cookie: 6, state: CLOSE, ..datagrams };
        let plan = plan(&[foreign, again, listener, accepted, idle, datagrams, idle_datagrams]);
        assert_eq!(plan.connected.iter().map(|record| record.cookie).collect::<Vec<_>>(), [1, 5]);
        assert!(plan.unhooked.is_empty());
    }

    #[test]
    fn a_socket_without_a_hook_costs_its_process_once() {
        let packet = Record { family: 17, socket_type: 3, protocol: 0, holder: 7, pid: 10, ..outbound() };
        let raw = Record { cookie: 2, socket_type: 3, holder: 7, pid: 10, ..outbound() };
        let other = Record { cookie: 3, pid: 11, ..packet };
        let plan = plan(&[packet, raw, other]);
        assert_eq!(plan.unhooked.iter().map(|record| record.pid).collect::<Vec<_>>(), [10, 11]);
        assert!(plan.connected.is_empty());
    }
}
