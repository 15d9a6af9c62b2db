//! Every map, in one place: all but two are pinned, and so outlive the agent.
//!
//! No map that security rests on is an LRU one: those forget under pressure, and pressure can be made.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use callgate_ebpf_common::{
    Enrolment, Marker, OriginRecord, Past, Phase, Ports, STATS as STATS_LEN, Settings, SocketState, Stat, TupleKey,
    Window,
};

#[map]
pub static SETTINGS: Array<Settings> = Array::pinned(1, 0);
/// When the agent last beat, `CLOCK_MONOTONIC` in nanoseconds. Apart from `SETTINGS`: a beat must not rewrite those.
#[map]
pub static HEARTBEAT: Array<u64> = Array::pinned(1, 0);
#[map]
pub static ENROLMENTS: HashMap<u64, Enrolment> = HashMap::pinned(4096, BPF_F_NO_PREALLOC);
#[map]
pub static LISTENERS: HashMap<u64, Ports> = HashMap::pinned(4096, BPF_F_NO_PREALLOC);
/// Connections that the proxy has not yet accepted: bounded by its accept queues, not by how many are open.
#[map]
pub static ORIGINS: HashMap<TupleKey, OriginRecord> = HashMap::pinned(65_536, BPF_F_NO_PREALLOC);
/// Senders of questions of DNS that the agent has not yet read. Apart from `ORIGINS`: who floods it with questions keeps
/// nobody from connecting.
#[map]
pub static ASKERS: HashMap<TupleKey, OriginRecord> = HashMap::pinned(16_384, BPF_F_NO_PREALLOC);
/// What went past the gate, by enrolment.
#[map]
pub static PAST: HashMap<u64, Past> = HashMap::pinned(4096, BPF_F_NO_PREALLOC);
#[map]
pub static EVENTS: RingBuf = RingBuf::pinned(256 * 1024, 0);
#[map]
pub static STATS: PerCpuArray<u64> = PerCpuArray::pinned(STATS_LEN, 0);
#[map]
pub static WINDOW: PerCpuArray<Window> = PerCpuArray::with_max_entries(1, 0);

/// Pinned by the loader: a BTF map cannot say so itself. The warden's programs at the enforcement root, which run behind
/// these at the same hooks, add to it what the task executes.
#[btf_map]
pub static SOCKETS: SkStorage<SocketState> = SkStorage::new();
/// Pinned by the loader.
#[btf_map]
pub static MARKERS: SkStorage<Marker> = SkStorage::new();

#[inline(always)]
pub fn count(index: u32) {
    if let Some(counter) = STATS.get_ptr_mut(index) {
        unsafe { *counter += 1 }
    }
}

#[inline(always)]
pub fn count_one(stat: Stat) {
    count(stat as u32);
}

/// The state of a socket; null when it has none.
#[inline(always)]
pub fn socket_state(sk: *mut bpf_sock) -> *mut SocketState {
    storage(&SOCKETS, sk, 0)
}

/// The state of a socket, made when it has none; null when there is no memory.
#[inline(always)]
pub fn socket_state_or_new(sk: *mut bpf_sock) -> *mut SocketState {
    storage(&SOCKETS, sk, BPF_SK_STORAGE_GET_F_CREATE.into())
}

/// Remembers that a socket was let through and reported. Without memory for that it is reported again.
#[inline(always)]
pub fn mark_observed(sk: *mut bpf_sock) {
    let state = socket_state_or_new(sk);
    if !state.is_null() {
        unsafe { (*state).phase = Phase::Observed as u32 };
    }
}

/// Whether a socket is a listener of ours.
#[inline(always)]
pub fn is_marked(sk: *mut bpf_sock) -> bool {
    !storage(&MARKERS, sk, 0).is_null()
}

/// aya's own accessors take the context of sock_addr programs alone.
#[inline(always)]
fn storage<T>(map: &'static SkStorage<T>, sk: *mut bpf_sock, flags: u64) -> *mut T {
    let map = core::ptr::from_ref(map).cast_mut().cast();
    unsafe { bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), flags) }.cast()
}
