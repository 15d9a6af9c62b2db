// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// Which execution executed which: every exec within an enrolled cgroup gets a number and a row that names the one before.
//
// The execution before is the one that the process was in when it called exec(): its own, or the one that it inherited
// by fork(). Parents in the kernel's sense have no part in it, so a process that is left by its parent, and given to
// another, changes nothing. The agent walks the rows, by their numbers, when it attests a connection.
//
// `agent/warden` has the same layouts in `src/lineage.rs`: change both.
#ifndef LINEAGE_H
#define LINEAGE_H

#include "warden.h"

// One execution of a program; the key of map `PROCESSES` is the process (thread group).
struct execution {
	// When the process started, since boot. Unit: nanoseconds.
	u64 start_ns;
	// The kernel's own count of its execs.
	u64 number;
	u64 inode;
	// Key of map `LINEAGE`, the same for children that executed nothing since; 0: not executed within an enrolment.
	u64 id;
	u32 device;
	u32 padding;
};
_Static_assert(sizeof(struct execution) == 40, "agent/warden/src/lineage.rs");

// There was an execution before, but it is not known.
#define UNTOLD (~0ULL)
// How many levels stay fresh in the map with each exec below them. Must be `ANCESTORS_MAX` of agent/identity.
#define ANCESTORS_MAX 16
// Longest name kept, with the zero at its end. Unit: bytes.
#define NAME_MAX 128

// How an execution came about.
struct descent {
	// The execution that executed it; 0: none within an enrolment, so it is where the workload was entered.
	u64 by;
	// When, `CLOCK_MONOTONIC`. Unit: nanoseconds.
	u64 at_ns;
	// Of the process that executed it, since boot. Unit: nanoseconds.
	u64 start_ns;
	u64 inode;
	u32 device;
	u32 pid;
	// What the kernel was told to load, the interpreter in case of a script: a label.
	char name[NAME_MAX];
};
_Static_assert(sizeof(struct descent) == 168, "agent/warden/src/lineage.rs");

// Programs write, the agent reads. What was not used for long makes room: who misses a row knows that one was there.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct descent);
} LINEAGE SEC(".maps");

// Programs write, the agent reads.
struct counts {
	// Executions so far; the last number given.
	u64 executions;
	// Executions and forks that found no room in `PROCESSES`: from then on nobody without a row can be called an entry.
	u64 lost;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counts);
} COUNTS SEC(".maps");

static __always_inline void note_loss(void)
{
	u32 zero = 0;
	struct counts *counts = bpf_map_lookup_elem(&COUNTS, &zero);
	if (counts)
		__sync_fetch_and_add(&counts->lost, 1);
}

// The execution that executed `now`; `before` is what was noted of the process.
static __always_inline u64 executed_by(struct execution *now, struct execution *before, struct counts *counts)
{
	if (before && before->start_ns == now->start_ns && before->id)
		// Else one was not seen.
		return before->number + 1 == now->number ? before->id : UNTOLD;
	return counts->lost ? UNTOLD : 0;
}

// Gives the execution `now` of process `pid` its number and its row.
static __always_inline u64 descend(struct execution *now, struct execution *before, u32 pid,
				   struct linux_binprm *program)
{
	u32 zero = 0;
	struct counts *counts = bpf_map_lookup_elem(&COUNTS, &zero);
	if (!counts)
		return UNTOLD;
	u64 id = __sync_fetch_and_add(&counts->executions, 1) + 1;
	struct descent descent = {};
	descent.by = executed_by(now, before, counts);
	descent.at_ns = bpf_ktime_get_ns();
	descent.start_ns = now->start_ns;
	descent.inode = now->inode;
	descent.device = now->device;
	descent.pid = pid;
	bpf_probe_read_kernel_str(descent.name, sizeof(descent.name), program->interp);
	bpf_map_update_elem(&LINEAGE, &id, &descent, BPF_ANY);
	// To look at a row keeps it: those above whoever still executes something are the last to make room.
	u64 above = descent.by;
	for (int level = 0; level < ANCESTORS_MAX && above; level++) {
		struct descent *one = bpf_map_lookup_elem(&LINEAGE, &above);
		if (!one)
			break;
		above = one->by;
	}
	return id;
}

#endif
