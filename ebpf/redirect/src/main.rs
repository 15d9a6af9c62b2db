//! The kernel programs of the redirect: what an enrolled cgroup cannot go around.
//!
//! `connect4/6` send every TCP connection to our listener in the socket's own network namespace and remember where it
//! was going; `sockops` tells the proxy; `getpeername4/6` tell the application what it dialled. Datagrams of DNS go to
//! our resolver there ([`datagram`], [`question`], [`answer`]). Everything that is not redirected is refused: at
//! `socket()` ([`create`]), at `connect()` and `sendmsg()` of datagrams, and, should all of that be got around, at
//! [`egress`]. What strict mode refuses is in [`strict`], what passes while no agent is alive in [`past`]. Programs never
//! decide by policy, and never look at payload.
//! The maps are in [`maps`], their values in `ebpf/common`, their owner is `agent/redirect`.
//!
//! Only the BPF target compiles anything here; elsewhere the crate is empty, so that the workspace can be checked whole.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics),
    allow(internal_features, reason = "adding atomically; the compiler is of one exact release"),
    allow(
        unsafe_code,
        clippy::undocumented_unsafe_blocks,
        reason = "every access here is judged by the kernel's verifier"
    ),
    allow(clippy::needless_borrows_for_generic_args, reason = "keys by value are copies, on a stack of 512 bytes")
)]

#[cfg(target_arch = "bpf")]
mod answer;
#[cfg(target_arch = "bpf")]
mod caller;
#[cfg(target_arch = "bpf")]
mod connect;
#[cfg(target_arch = "bpf")]
mod context;
#[cfg(target_arch = "bpf")]
mod create;
#[cfg(target_arch = "bpf")]
mod datagram;
#[cfg(target_arch = "bpf")]
mod egress;
#[cfg(target_arch = "bpf")]
mod listener;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod past;
#[cfg(target_arch = "bpf")]
mod peername;
#[cfg(target_arch = "bpf")]
mod question;
#[cfg(target_arch = "bpf")]
mod report;
#[cfg(target_arch = "bpf")]
mod sockops;
#[cfg(target_arch = "bpf")]
mod strict;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Some helpers are for programs under the GPL alone.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 7] = *b"GPL v2\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
