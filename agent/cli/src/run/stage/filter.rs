//! The seccomp filter: sockets of four families only, and no way past the filter itself.
//!
//! The kernel hooks on the cgroup see IPv4 and IPv6 sockets alone. AF_VSOCK, AF_PACKET, AF_ALG and the rest would pass
//! them unseen, so here they do not exist. A program of another architecture (32-bit) is killed: its socket call has
//! other numbers. io_uring is refused like on a kernel without it, because it makes sockets without a system call, and
//! clone3 because it leads out of the cgroup.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Families that CMD may ask for. Unix sockets stay inside the mount namespace and the Landlock domain;
/// IPv4 and IPv6 are the kernel hooks' matter.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// A type of AF_INET sockets that the kernel turns into AF_PACKET, and the bits of the type. Source: linux/net.h.
const SOCK_PACKET: u32 = 10;
const SOCKET_TYPE: u32 = 0xf;

/// System calls that have no business in a workload and reach into the kernel that enforces us.
const REFUSED: &[c_long] = &[
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_open_by_handle_at,
    // Takes descriptors out of other processes; Landlock refuses it too, but may be missing.
    libc::SYS_pidfd_getfd,
];

/// System calls that are answered as if the kernel did not have them.
///
/// `clone3` can have a child born in any cgroup that can be opened (CLONE_INTO_CGROUP): it asks that cgroup's
/// permissions, which root has, and never whether its mount is read-only. Its arguments are behind a pointer, where no
/// filter sees them; libraries use `clone` where it is absent.
const ABSENT: &[c_long] =
    &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_clone3];

/// Requests that type into the terminal that CMD shares with the user's shell, which would then run it.
const TYPING: [u32; 2] = [0x5412 /* TIOCSTI */, 0x541c /* TIOCLINUX */];

/// The x32 system calls have the numbers of x86-64 with this bit, in the same architecture; `ioctl` has one of its own.
#[cfg(target_arch = "x86_64")]
const X32: c_long = 0x4000_0000;
#[cfg(target_arch = "x86_64")]
const X32_IOCTL: c_long = X32 | 514;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Loads the filter; `no_new_privs` must be set.
pub(super) fn apply() -> Result<()> {
    for program in programs()? {
        seccompiler::apply_filter(&program).context("cannot load the seccomp filter")?;
    }
    Ok(())
}

/// One program for each answer; the kernel asks all of them.
fn programs() -> Result<Vec<BpfProgram>> {
    let answers = [
        (families()?, libc::EAFNOSUPPORT),
        (netlink()?, libc::EPROTONOSUPPORT),
        (refused()?, libc::EPERM),
        (absent(), libc::ENOSYS),
    ];
    answers.into_iter().map(|(rules, errno)| program(rules, errno)).collect()
}

fn program(rules: Rules, errno: i32) -> Result<BpfProgram> {
    let architecture = std::env::consts::ARCH.try_into().context("no seccomp filter for this architecture")?;
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, answer, architecture).context("a malformed seccomp filter")?;
    filter.try_into().context("a malformed seccomp filter")
}

/// Any family but ours, by `socket` or `socketpair`.
fn families() -> Result<Rules> {
    let other = FAMILIES.iter().map(|family| argument(0, Op::Ne, family.unsigned_abs())).collect::<Result<Vec<_>>>()?;
    let other = SeccompRule::new(other)?;
    // The old way to a packet socket, flags beside it or not.
    let packet = argument(1, Op::MaskedEq(SOCKET_TYPE.into()), SOCK_PACKET)?;
    let packet = SeccompRule::new(vec![argument(0, Op::Eq, libc::AF_INET.unsigned_abs())?, packet])?;
    let mut rules = Rules::from([(libc::SYS_socket, vec![other.clone(), packet]), (libc::SYS_socketpair, vec![other])]);
    without_x32(&mut rules, &[libc::SYS_socket, libc::SYS_socketpair]);
    Ok(rules)
}

/// Of netlink, only the protocol that lists interfaces and routes (NETLINK_ROUTE): the C library needs it.
fn netlink() -> Result<Rules> {
    let netlink = argument(0, Op::Eq, libc::AF_NETLINK.unsigned_abs())?;
    let other = argument(2, Op::Ne, libc::NETLINK_ROUTE.unsigned_abs())?;
    Ok(Rules::from([(libc::SYS_socket, vec![SeccompRule::new(vec![netlink, other])?])]))
}

fn refused() -> Result<Rules> {
    let typing = TYPING.iter().map(|request| Ok(SeccompRule::new(vec![argument(1, Op::Eq, *request)?])?));
    let mut rules = Rules::from([(libc::SYS_ioctl, typing.collect::<Result<Vec<_>>>()?)]);
    rules.extend(REFUSED.iter().map(|call| (*call, Vec::new())));
    without_x32(&mut rules, REFUSED);
    #[cfg(target_arch = "x86_64")]
    rules.insert(X32_IOCTL, Vec::new());
    Ok(rules)
}

fn absent() -> Rules {
    let mut rules: Rules = ABSENT.iter().map(|call| (*call, Vec::new())).collect();
    without_x32(&mut rules, ABSENT);
    rules
}

/// Refuses the x32 twin of each call, whatever its arguments.
fn without_x32(rules: &mut Rules, calls: &[c_long]) {
    #[cfg(target_arch = "x86_64")]
    rules.extend(calls.iter().map(|call| (X32 | call, Vec::new())));
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (rules, calls);
}

/// Compares the low 32 bits, which is what the kernel takes of these arguments.
fn argument(index: u8, operator: Op, value: u32) -> Result<SeccompCondition> {
    Ok(SeccompCondition::new(index, Length::Dword, operator, value.into())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiles() {
        assert_eq!(programs().unwrap().len(), 4);
        assert!(TYPING.contains(&u32::try_from(libc::TIOCSTI).unwrap()));
    }
}
