//! Gives up what root could do: user, groups, capabilities.

use anyhow::{Context as _, Result};
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::run::Invoker;

/// What CMD keeps when its user is root itself: what containers get, without NET_RAW, and without MKNOD, which a
/// container may have only because its devices are restricted. The set ends where the way around would begin:
/// no NET_ADMIN, SYS_ADMIN, SYS_PTRACE, BPF, PERFMON.
const ROOT_KEEPS: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Becomes `invoker`, for good.
pub(super) fn drop_to(invoker: &Invoker) -> Result<()> {
    let kept = if invoker.uid == 0 { ROOT_KEEPS } else { CapabilitySet::empty() };
    limit_bounding_set(kept)?;
    rustix::thread::clear_ambient_capability_set().context("cannot clear the ambient capabilities")?;

    let groups: Vec<Gid> = invoker.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(invoker.uid), Gid::from_raw(invoker.gid));
    rustix::thread::set_thread_groups(&groups).context("cannot set the supplementary groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .with_context(|| format!("cannot become group {}", invoker.gid))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).with_context(|| format!("cannot become user {}", invoker.uid))?;

    // Running in a container, root may not have had all of them.
    let had = rustix::thread::capabilities(None).context("cannot read capabilities")?.permitted;
    let kept = kept.intersection(had);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).context("cannot give up capabilities")
}

/// What is not in the bounding set cannot be had again by any exec.
fn limit_bounding_set(kept: CapabilitySet) -> Result<()> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        // The kernel knows fewer than 64; the first unknown one ends the list.
        let Ok(present) = rustix::thread::capability_is_in_bounding_set(capability) else { break };
        if present && !kept.contains(capability) {
            rustix::thread::remove_capability_from_bounding_set(capability)
                .with_context(|| format!("cannot drop capability {bit}"))?;
        }
    }
    Ok(())
}
