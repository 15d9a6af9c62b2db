//! Whether our listener is there, and alive.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_F_CURRENT_NETNS, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release};
use aya_ebpf::programs::SockAddrContext;
use callgate_ebpf_common::{Address, Ports, Refusal};

use crate::maps::{HEARTBEAT, LISTENERS, SETTINGS, is_marked};

#[inline(always)]
pub fn ports(netns: u64) -> Ports {
    match unsafe { LISTENERS.get(&netns) } {
        Some(ports) => *ports,
        None => Ports::default(),
    }
}

/// Whether a destination is one of our own listeners.
///
/// They are bound to loopback alone; a port of either family counts for both, which costs a workload at most one
/// port of its loopback.
#[inline(always)]
pub fn is_ours(ports: &Ports, to: &Address, port: u16) -> bool {
    port != 0 && (port == ports.v4 || port == ports.v6) && to.is_loopback()
}

/// Whether it is where our resolver answers.
#[inline(always)]
pub fn is_our_dns(ports: &Ports, to: &Address, port: u16) -> bool {
    port != 0
        && ((port == ports.dns4 && *to == Address::LOOPBACK4) || (port == ports.dns6 && *to == Address::LOOPBACK6))
}

/// Where to send a question of DNS.
#[inline(always)]
pub fn find_dns(ctx: &SockAddrContext, ports: &Ports, to: &Address) -> Result<(Address, u16), Refusal> {
    if is_stale() {
        return Err(Refusal::Stale);
    }
    let (address, port) = if to.is_v4() { (Address::LOOPBACK4, ports.dns4) } else { (Address::LOOPBACK6, ports.dns6) };
    if port != 0 && answers_dns(ctx, address, port) { Ok((address, port)) } else { Err(Refusal::NoListener) }
}

/// Whether our resolver's socket is there. Connected sockets of a workload outlive it: see [`is_alive`].
#[inline(always)]
pub fn answers_dns(ctx: &impl EbpfContext, address: Address, port: u16) -> bool {
    is_alive(ctx, address, port, true)
}

/// Where to redirect to.
#[inline(always)]
pub fn find(ctx: &SockAddrContext, ports: &Ports, to: &Address) -> Result<(Address, u16), Refusal> {
    if is_stale() {
        return Err(Refusal::Stale);
    }
    let (address, port) = if to.is_v4() { (Address::LOOPBACK4, ports.v4) } else { (Address::LOOPBACK6, ports.v6) };
    if port != 0 && is_alive(ctx, address, port, false) { Ok((address, port)) } else { Err(Refusal::NoListener) }
}

/// Never written counts as stale: until the agent has passed its accept loop once, nothing goes.
#[inline(always)]
pub fn is_stale() -> bool {
    let (Some(settings), Some(beat)) = (SETTINGS.get(0), HEARTBEAT.get_ptr(0)) else { return true };
    let beat = unsafe { core::ptr::read_volatile(beat) };
    let now = unsafe { bpf_ktime_get_ns() };
    // A beat between the two readings makes `now` the older one: fresh.
    now.saturating_sub(beat) > settings.stale_ns || settings.stale_ns == 0
}

/// Looks the listener up in the socket's own network namespace and asks for our mark: a port number outlives its
/// socket, and whoever binds it next would be given the connections.
#[inline(always)]
fn is_alive(ctx: &impl EbpfContext, address: Address, port: u16, datagrams: bool) -> bool {
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let size = if address.is_v4() {
        unsafe {
            tuple.__bindgen_anon_1.ipv4.daddr = address.0[3];
            tuple.__bindgen_anon_1.ipv4.dport = port.to_be();
            size_of_val(&tuple.__bindgen_anon_1.ipv4)
        }
    } else {
        unsafe {
            tuple.__bindgen_anon_1.ipv6.daddr = address.0;
            tuple.__bindgen_anon_1.ipv6.dport = port.to_be();
            size_of_val(&tuple.__bindgen_anon_1.ipv6)
        }
    };
    let (tuple, size, netns) = (&raw mut tuple, size as u32, BPF_F_CURRENT_NETNS as i64 as u64);
    let sk = if datagrams {
        unsafe { bpf_sk_lookup_udp(ctx.as_ptr(), tuple, size, netns, 0) }
    } else {
        unsafe { bpf_sk_lookup_tcp(ctx.as_ptr(), tuple, size, netns, 0) }
    };
    if sk.is_null() {
        return false;
    }
    let ours = is_marked(sk);
    unsafe { bpf_sk_release(sk.cast()) };
    ours
}
