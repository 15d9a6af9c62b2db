//! Values of the maps by which the agent steers the programs.

/// What the programs are told once. Map `SETTINGS`, one entry: the agent writes at load, programs read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Age at which a heartbeat counts as stale. Unit: nanoseconds. 0 (never written): everything is stale.
    pub stale_ns: u64,
}

/// What user space says of a cgroup and what is below it. Map `ENROLMENTS`, key: cgroup id. The agent writes, programs
/// read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enrolment {
    /// [`MODE_ENFORCE`], [`MODE_OBSERVE`], [`MODE_STRICT`] or [`MODE_EXEMPT`]; any other number enforces.
    pub mode: u32,
    /// [`FAIL_CLOSED`], [`FAIL_OPEN`] or [`FAIL_OBSERVE`]; any other number is closed.
    pub fail: u32,
}

/// What would be refused is refused.
pub const MODE_ENFORCE: u32 = 0;
/// What has no redirect (UDP, other protocols) passes and is reported; TCP is redirected all the same.
pub const MODE_OBSERVE: u32 = 1;
/// No workload: what is below is refused until it is classified, that is enrolled or exempt.
pub const MODE_STRICT: u32 = 2;
/// No workload, and strict mode above does not concern it. An enrolment above does: it always counts first.
pub const MODE_EXEMPT: u32 = 3;

/// While the heartbeat is stale, connections are refused.
pub const FAIL_CLOSED: u32 = 0;
/// While the heartbeat is stale, TCP and DNS go where they were going, and are counted in map `PAST`.
pub const FAIL_OPEN: u32 = 1;
/// As [`FAIL_OPEN`], and each connection is reported with its destination.
pub const FAIL_OBSERVE: u32 = 2;

/// What of one enrolment went past the gate. Map `PAST`, key: cgroup id. Programs write, the agent takes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// How many connections.
    pub connections: u64,
    /// How many datagrams of DNS; each counts twice where enrolled cgroups are nested.
    pub questions: u64,
    /// When the first one left, `CLOCK_MONOTONIC`. Unit: nanoseconds.
    pub first_ns: u64,
    /// When the last one left, `CLOCK_MONOTONIC`. Unit: nanoseconds.
    pub last_ns: u64,
}

/// Our listeners in one network namespace. Map `LISTENERS`, key: netns cookie. The agent writes, programs read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// TCP port on 127.0.0.1, in host order; 0: none.
    pub v4: u16,
    /// TCP port on ::1, in host order; 0: none.
    pub v6: u16,
    /// UDP port on 127.0.0.1 where DNS is answered, in host order; 0: none.
    pub dns4: u16,
    /// UDP port on ::1 where DNS is answered, in host order; 0: none.
    pub dns6: u16,
}

/// Present on a socket that is a listener of ours. Map `MARKERS` (socket storage): the agent writes, programs look.
///
/// A port number alone outlives its socket: after the agent's death anybody could bind it and be given the redirected
/// connections. So programs look the listener up and ask for this mark, which goes with the socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marker {
    /// Never 0.
    pub version: u32,
}

/// State of the bound on reports. Map `WINDOW` (per CPU): programs read and write.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// When the present second began, `CLOCK_MONOTONIC`. Unit: nanoseconds.
    pub began_ns: u64,
    /// Reports in it.
    pub reports: u64,
}

const _: () = assert!(size_of::<Settings>() == 8);
const _: () = assert!(size_of::<Enrolment>() == 8);
const _: () = assert!(size_of::<Past>() == 32);
const _: () = assert!(size_of::<Ports>() == 8);
const _: () = assert!(size_of::<Marker>() == 4);
const _: () = assert!(size_of::<Window>() == 16);

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya's marker for plain data")]
mod user {
    // SAFETY: integers alone, repr(C), padding explicit.
    unsafe impl aya::Pod for super::Settings {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Enrolment {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Past {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Ports {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Marker {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Window {}
}
