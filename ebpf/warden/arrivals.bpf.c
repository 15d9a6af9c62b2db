// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// Moments at which an enrolled task may come to hold a socket that was made elsewhere: the agent is told to look.
//
// That is after a message was received over a unix socket, after pidfd_getfd(), when a task is moved into an enrolled
// cgroup, and when one is cloned into it. Whether a message carried descriptors is not asked: the answer lies in memory
// that the task can write. One report a process is under way at most, until the agent begins to look.
#include "calls.h"

// Source: uapi/linux/io_uring.h.
#define IORING_OP_RECVMSG 10

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

static __always_inline void tell_of_current(void)
{
	struct place place = place_of_current();
	if (place.enrolled)
		tell(place, bpf_get_current_pid_tgid() >> 32);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(arrival_exit, struct pt_regs *regs, long result)
{
	u32 call, fd, family;
	if (result < 0)
		return 0;
	switch (call_of(number_of(regs))) {
	case CALL_PIDFD_GETFD:
		tell_of_current();
		return 0;
	case CALL_RECVMSG:
	case CALL_RECVMMSG:
		family = family_of(first_argument(regs));
		break;
	case CALL_SOCKETCALL:
		call = first_argument(regs);
		if (call != SYS_RECVMSG && call != SYS_RECVMMSG)
			return 0;
		family = bpf_probe_read_user(&fd, sizeof(fd), (void *)second_argument(regs)) ? 0 : family_of(fd);
		break;
	default:
		return 0;
	}
	// The descriptor may be gone by now, or another one: only what is certainly no unix socket is left out.
	if (family == AF_UNIX || !family)
		tell_of_current();
	return 0;
}

SEC("tp_btf/io_uring_complete")
int BPF_PROG(arrival_uring, void *ring, void *done)
{
	struct io_kiocb *request = done;
	if (request && BPF_CORE_READ(request, opcode) == IORING_OP_RECVMSG)
		tell_of_current();
	return 0;
}

SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(arrival_move, struct cgroup *to, const char *path, struct task_struct *task)
{
	struct place place = place_of_cgroup(to);
	if (place.enrolled)
		tell(place, task->tgid);
	return 0;
}

// clone3(CLONE_INTO_CGROUP), by a parent that is not enrolled itself.
SEC("tp_btf/sched_process_fork")
int BPF_PROG(arrival_clone, struct task_struct *parent, struct task_struct *child)
{
	if (parent->cgroups == child->cgroups)
		return 0;
	struct place place = place_of_cgroup(BPF_CORE_READ(child, cgroups, dfl_cgrp));
	if (place.enrolled && !place_of_cgroup(BPF_CORE_READ(parent, cgroups, dfl_cgrp)).enrolled)
		tell(place, child->tgid);
	return 0;
}
