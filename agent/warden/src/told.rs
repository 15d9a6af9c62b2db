//! What the kernel's events and records are to the audit.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use callgate_model::{CgroupId, KernelDenial, KernelEvent, NetnsCookie};

use crate::kernel::{self, Event, KIND_FAMILY, KIND_FOREIGN, Record};

/// None for what is no event of a workload's.
pub fn of_event(event: &Event) -> Option<KernelDenial> {
    let kind = match event.kind {
        KIND_FOREIGN => KernelEvent::Foreign,
        KIND_FAMILY => KernelEvent::Family,
        _ => return None,
    };
    Some(KernelDenial {
        event: kind,
        workload: String::new(),
        cgroup_path: String::new(),
        cgroup: CgroupId(event.enrolled),
        netns: NetnsCookie(event.netns),
        pid: event.pid,
        uid: event.uid,
        destination: kernel::shown(event.destination, event.port),
        family: event.family,
        socket_type: event.socket_type,
        protocol: event.protocol,
        observed: event.observed != 0,
    })
}

/// A socket that was destroyed, or, if `observed`, only found.
pub fn of_socket(record: &Record, cgroup: CgroupId, observed: bool) -> KernelDenial {
    let kind = if record.has_hooks() { KernelEvent::Severed } else { KernelEvent::Family };
    // A process that is gone had a user that nobody can tell any more.
    let uid = fs::metadata(format!("/proc/{}", record.pid)).map_or(0, |process| process.uid());
    KernelDenial {
        event: kind,
        workload: String::new(),
        cgroup_path: String::new(),
        cgroup,
        netns: NetnsCookie(record.netns_cookie),
        pid: record.pid,
        uid: if record.pid == 0 { 0 } else { uid },
        destination: if record.is_inet() {
            kernel::shown(record.destination, record.destination_port)
        } else {
            String::new()
        },
        family: record.family,
        socket_type: record.socket_type,
        protocol: record.protocol,
        observed,
    }
}
