//! Who asks: the current task, and the enrolment that it stands under.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
    bpf_skb_ancestor_cgroup_id,
};
use callgate_ebpf_common::{CGROUP_DEPTH_MAX, MODE_EXEMPT, MODE_OBSERVE, MODE_STRICT};

use crate::maps::ENROLMENTS;

/// The current task; all zero where a program runs outside of one.
#[derive(Clone, Copy, Default)]
pub struct Caller {
    /// Deepest enrolled cgroup above the task; 0: none, the task is foreign to the hook's cgroup.
    pub enrolled: u64,
    /// Whether that enrolment only observes.
    pub observed: bool,
    /// What holds for that enrolment while the agent's heartbeat is stale: `FAIL_…`.
    pub fail: u32,
    /// Where nothing is enrolled: the cgroup at which strict mode stands above the task; 0: none, or it is exempt.
    pub strict: u64,
    pub cgroup: u64,
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Caller {
    /// The hooks follow the socket's cgroup, which is fixed at `socket()`; this looks at the task.
    #[inline(always)]
    pub fn current() -> Self {
        let (pid_tgid, uid_gid) = unsafe { (bpf_get_current_pid_tgid(), bpf_get_current_uid_gid()) };
        let standing = deepest(|level| unsafe { bpf_get_current_ancestor_cgroup_id(level) });
        Self {
            cgroup: unsafe { bpf_get_current_cgroup_id() },
            pid: (pid_tgid >> 32) as u32,
            uid: uid_gid as u32,
            gid: (uid_gid >> 32) as u32,
            ..standing
        }
    }

    /// The enrolment of a packet's socket. Packets leave in softirq too, where the current task is anybody.
    #[inline(always)]
    pub fn of_packet(skb: *mut __sk_buff) -> Self {
        deepest(|level| unsafe { bpf_skb_ancestor_cgroup_id(skb, level) })
    }
}

/// Of the cgroups on the way down: an enrolment counts wherever it is, the deepest first; strict mode and exemption
/// only where there is none.
#[inline(always)]
fn deepest(ancestor: impl Fn(i32) -> u64) -> Caller {
    let mut found = Caller::default();
    // Level 0 is the root, which is never enrolled.
    for level in 1..=CGROUP_DEPTH_MAX as i32 {
        let id = ancestor(level);
        if id == 0 {
            break;
        }
        if let Some(enrolment) = unsafe { ENROLMENTS.get(&id) } {
            match enrolment.mode {
                MODE_STRICT => found.strict = id,
                MODE_EXEMPT => found.strict = 0,
                mode => {
                    found.enrolled = id;
                    found.observed = mode == MODE_OBSERVE;
                    found.fail = enrolment.fail;
                }
            }
        }
    }
    if found.enrolled != 0 {
        found.strict = 0;
    }
    found
}
