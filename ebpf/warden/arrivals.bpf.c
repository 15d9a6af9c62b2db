// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// Moments at which an enrolled task may come to hold a socket that was made elsewhere: the agent is told to look.
//
// That is after a message was received over a unix socket, when a task is moved into an enrolled cgroup, and when one is
// cloned into it; pidfd_getfd() is seen by calls.bpf.c. Whether a message carried descriptors is not asked: the answer
// lies in memory that the task can write. Nothing here runs for a system call that receives nothing.
#include "arrivals.h"
#include "calls.h"

// Source: uapi/linux/io_uring.h.
#define IORING_OP_RECVMSG 10

// A message or stream was read, by whatever call: 64-bit, 32-bit, io_uring. Since Linux 6.3.
SEC("tp_btf/sock_recv_length")
int BPF_PROG(arrival_received, struct sock *socket, int length, int flags)
{
	if (socket->__sk_common.skc_family != AF_UNIX || length < 0)
		return 0;
	// These leave no room for a descriptor. A message that io_uring received while such a call returned is seen below.
	if (is_plain((struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf())))
		return 0;
	tell_of_current(place_of_current());
	return 0;
}

SEC("tp_btf/io_uring_complete")
int BPF_PROG(arrival_uring, void *ring, void *done)
{
	struct io_kiocb *request = done;
	if (request && BPF_CORE_READ(request, opcode) == IORING_OP_RECVMSG)
		tell_of_current(place_of_current());
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
