// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// What every program of the warden shares: the enrolments, the ring buffer, who stands below an enrolled cgroup.
//
// `agent/warden` has the same layouts in `src/kernel.rs`: change both.
#ifndef WARDEN_H
#define WARDEN_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

// Some helpers are for programs under the GPL alone.
char LICENSE[] SEC("license") = "GPL";

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_NETLINK 16
#define AF_PACKET 17
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define SOCK_STREAM 1
#define SOCK_DGRAM 2

// How many levels of the cgroup tree below its root are looked at. Must be `CGROUP_DEPTH_MAX` of ebpf/common.
#define DEPTH_MAX 24

// Mode of an enrolment that refuses nothing, and of entries that enrol nobody: where strict mode stands, and what it
// leaves alone. Any other enforces. Must be those of ebpf/common.
#define MODE_OBSERVE 1
#define MODE_STRICT 2
#define MODE_EXEMPT 3

// The map `ENROLMENTS` of ebpf/redirect, taken over by its pin: the agent writes, programs read.
struct enrolment {
	u32 mode;
	u32 padding;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct enrolment);
} ENROLMENTS SEC(".maps");

// What an event is about. Must be `Kind` of agent/warden.
enum kind {
	// An enrolled task used a socket of another cgroup: refused.
	KIND_FOREIGN = 1,
	// An enrolled task asked for a socket of a family that has no hook.
	KIND_FAMILY = 2,
	// An enrolled task may have been given a socket: for the agent to look, no event of the workload's.
	KIND_ARRIVAL = 3,
};

// Ring buffer `WARDEN_EVENTS`: programs write, the agent reads. 80 bytes.
struct event {
	u64 at_ns;
	u64 enrolled;
	u64 cgroup;
	// Cookie of the socket's network namespace; 0: not known.
	u64 netns;
	u32 kind;
	u32 observed;
	u32 pid;
	u32 uid;
	u32 family;
	u32 socket_type;
	u32 protocol;
	u32 port;
	u32 destination[4];
};
_Static_assert(sizeof(struct event) == 80, "agent/warden/src/kernel.rs");
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} WARDEN_EVENTS SEC(".maps");

// Most events that one CPU reports in a second: each wakes the agent. Arrivals are bounded otherwise, see arrivals.bpf.c.
#define EVENTS_PER_SECOND 1000
#define SECOND_NS 1000000000ULL

// State of that bound; programs read and write.
struct window {
	u64 began_ns;
	u64 events;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct window);
} WINDOW SEC(".maps");

static __always_inline bool within_bound(u64 now)
{
	u32 zero = 0;
	struct window *window = bpf_map_lookup_elem(&WINDOW, &zero);
	if (!window)
		return false;
	if (now - window->began_ns > SECOND_NS) {
		window->began_ns = now;
		window->events = 0;
	}
	return ++window->events <= EVENTS_PER_SECOND;
}

// Who stands below an enrolled cgroup.
struct place {
	// Deepest enrolled cgroup; 0: none.
	u64 enrolled;
	bool observed;
};

static __always_inline struct place place_none(void)
{
	struct place place = { 0, false };
	return place;
}

static __always_inline bool enrols(const struct enrolment *entry)
{
	return entry && entry->mode != MODE_STRICT && entry->mode != MODE_EXEMPT;
}

// Of the current task.
static __always_inline struct place place_of_current(void)
{
	struct place place = place_none();
	// Level 0 is the root, which is never enrolled.
	for (int level = 1; level <= DEPTH_MAX; level++) {
		u64 id = bpf_get_current_ancestor_cgroup_id(level);
		if (!id)
			break;
		struct enrolment *enrolment = bpf_map_lookup_elem(&ENROLMENTS, &id);
		if (enrols(enrolment)) {
			place.enrolled = id;
			place.observed = enrolment->mode == MODE_OBSERVE;
		}
	}
	return place;
}

// Of a cgroup, upwards: the first one found is the deepest.
static __always_inline struct place place_of_cgroup(struct cgroup *cgroup)
{
	struct place place = place_none();
	for (int level = 0; level <= DEPTH_MAX && cgroup; level++) {
		u64 id = BPF_CORE_READ(cgroup, kn, id);
		struct enrolment *enrolment = bpf_map_lookup_elem(&ENROLMENTS, &id);
		if (enrols(enrolment)) {
			place.enrolled = id;
			place.observed = enrolment->mode == MODE_OBSERVE;
			break;
		}
		cgroup = BPF_CORE_READ(cgroup, self.parent, cgroup);
	}
	return place;
}

// An event of the current task; null when there are too many, or the ring is full.
static __always_inline struct event *event_of_current(enum kind kind, struct place place)
{
	u64 now = bpf_ktime_get_ns();
	if (kind != KIND_ARRIVAL && !within_bound(now))
		return 0;
	struct event *event = bpf_ringbuf_reserve(&WARDEN_EVENTS, sizeof(*event), 0);
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->at_ns = now;
	event->enrolled = place.enrolled;
	event->observed = place.observed;
	event->cgroup = bpf_get_current_cgroup_id();
	event->kind = kind;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->uid = bpf_get_current_uid_gid();
	return event;
}

#endif
