// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// Telling the agent to look at what a process holds: one report a process is under way at most, until it begins to look.
#ifndef ARRIVALS_H
#define ARRIVALS_H

#include "warden.h"

// Processes of which a report is under way: programs add, the agent removes before it looks.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u32);
	__type(value, u32);
} STIRRED SEC(".maps");

static __always_inline void tell(struct place place, u32 pid)
{
	u32 one = 1;
	// A full map tells once more than needed, not once less.
	if (bpf_map_update_elem(&STIRRED, &pid, &one, BPF_NOEXIST) == -17 /* EEXIST */)
		return;
	struct event *event = event_of_current(KIND_ARRIVAL, place);
	if (!event) {
		bpf_map_delete_elem(&STIRRED, &pid);
		return;
	}
	event->pid = pid;
	bpf_ringbuf_submit(event, 0);
}

static __always_inline void tell_of_current(struct place place)
{
	if (place.enrolled)
		tell(place, bpf_get_current_pid_tgid() >> 32);
}

#endif
