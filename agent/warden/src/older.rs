//! Sockets of a cgroup that are older than its enrolment: no hook saw where they go.
//!
//! Left alone: listeners, and what they accepted. Inbound traffic is not the gate's affair.

use std::path::Path;

use callgate_model::{CgroupId, KernelDenial};

use crate::kernel::Record;
use crate::look::Eyes;
use crate::{Older, WardenError, held, netns, told};

/// What became of the sockets that a cgroup had when it was enrolled.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Severed {
    /// Destroyed, in the form in which they are recorded.
    pub destroyed: Vec<KernelDenial>,
    /// Not destroyed: the configuration says so, or the kernel did not.
    pub uncovered: Vec<KernelDenial>,
    /// Connections that others opened to listeners of the cgroup's: left alone.
    pub inbound: usize,
    /// Network namespaces that could not be looked at, with the reason.
    pub unseen: Vec<String>,
}

impl Eyes {
    /// In every network namespace that the cgroup's threads are in, and that sockets in their hands belong to.
    pub fn sever(&self, path: &Path, cgroup: CgroupId) -> Result<Severed, WardenError> {
        let mut spaces = netns::of_cgroup(path);
        for record in self.sockets.held(None)?.iter().filter(|record| record.holder == cgroup.0) {
            if !spaces.contains_key(&u64::from(record.netns))
                && let Ok(netns) = held::netns_of(record)
            {
                spaces.insert(netns.inode(), netns);
            }
        }
        let mut severed = Severed::default();
        for netns in spaces.values() {
            if let Err(error) = self.sever_in(netns, cgroup, &mut severed) {
                severed.unseen.push(error.to_string());
            }
        }
        Ok(severed)
    }

    fn sever_in(&self, netns: &netns::Netns, cgroup: CgroupId, severed: &mut Severed) -> Result<(), WardenError> {
        let records = self.sockets.in_netns(netns)?;
        let Plan { destroy, inbound } = plan(&records, cgroup);
        severed.inbound += inbound;
        let left = match self.older {
            Older::Destroy => self.sockets.destroy(netns, &destroy)?,
            Older::Report => destroy.clone(),
        };
        for record in destroy {
            let stays = left.iter().any(|left| left.cookie == record.cookie);
            let list = if stays { &mut severed.uncovered } else { &mut severed.destroyed };
            list.push(told::of_socket(&record, cgroup, stays));
        }
        Ok(())
    }
}

struct Plan {
    destroy: Vec<Record>,
    inbound: usize,
}

/// What of the sockets in one network namespace is to be destroyed when `cgroup` is enrolled.
fn plan(records: &[Record], cgroup: CgroupId) -> Plan {
    let own = || records.iter().filter(|record| record.enrolled == cgroup.0);
    let listeners: Vec<&Record> = own().filter(|record| record.listens()).collect();
    let mut plan = Plan { destroy: Vec::new(), inbound: 0 };
    for record in own().filter(|record| !record.listens()) {
        if listeners.iter().any(|listener| record.came_in_by(listener)) {
            plan.inbound += 1;
        } else {
            plan.destroy.push(*record);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tests::outbound;
    use crate::kernel::{LISTEN, UDP};

    #[test]
    fn listeners_and_what_they_accepted_are_left_alone_and_other_cgroups_too() {
        let out = outbound();
        let listener = Record { cookie: 2, state: LISTEN, source_port: 80, destination_port: 0, ..out };
        let accepted = Record { cookie: 3, source_port: 80, ..out };
        let bound_to_it = Record { cookie: 4, port_locked: 1, ..accepted };
        let datagrams = Record { cookie: 5, protocol: UDP, socket_type: 2, state: 7, source_port: 80, ..out };
        let other = Record { cookie: 6, enrolled: 8, ..out };
        let foreign = Record { cookie: 7, enrolled: 0, ..out };
        let plan = plan(&[out, listener, accepted, bound_to_it, datagrams, other, foreign], CgroupId(7));
        assert_eq!(plan.destroy.iter().map(|record| record.cookie).collect::<Vec<_>>(), [1, 4, 5]);
        assert_eq!(plan.inbound, 1);
    }
}
