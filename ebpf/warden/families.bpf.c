// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// Families without a hook: an enrolled task that asks for a packet, vsock, CAN or other socket is ended.
//
// `cgroup/sock_create` runs for AF_INET and AF_INET6 alone. Where BPF LSM does not load (see lsm.bpf.c), a tracepoint is
// left, which cannot refuse. It can signal: the task dies on its way back to user space, before it can use the
// descriptor. Another process that shares its descriptors (CLONE_FILES) is found by `files` in sockets.bpf.c, which the
// agent reads after each of these events.
#include "calls.h"

#define SIGKILL 9
// Reported as the family where it could not be read.
#define FAMILY_UNKNOWN 0xffffffff
// Source: uapi/linux/io_uring.h.
#define IORING_OP_SOCKET 45
// The old way to a packet socket: AF_INET with this type. Sources: linux/net.h; the kernel turns it into AF_PACKET.
#define SOCK_PACKET 10
#define SOCK_TYPE_MASK 0xf

// The family that the kernel will make of it.
static __always_inline u32 family_for(u32 family, u32 type)
{
	return family == AF_INET && (type & SOCK_TYPE_MASK) == SOCK_PACKET ? AF_PACKET : family;
}

static __always_inline void judge(u32 family)
{
	if (family == AF_INET || family == AF_INET6 || family == AF_UNIX || family == AF_NETLINK)
		return;
	struct place place = place_of_current();
	if (!place.enrolled)
		return;
	if (!place.observed)
		bpf_send_signal(SIGKILL);
	struct event *event = event_of_current(KIND_FAMILY, place);
	if (!event)
		return;
	event->family = family;
	bpf_ringbuf_submit(event, 0);
}

SEC("tp_btf/sys_enter")
int BPF_PROG(family_enter, struct pt_regs *regs, long number)
{
	u32 call, family = FAMILY_UNKNOWN;
	switch (call_of(number)) {
	case CALL_SOCKET:
	case CALL_SOCKETPAIR:
		judge(family_for(first_argument(regs), second_argument(regs)));
		return 0;
	case CALL_SOCKETCALL:
		call = first_argument(regs);
		if (call != SYS_SOCKET && call != SYS_SOCKETPAIR)
			return 0;
		// The arguments lie in the task's memory. Where that is not there, the family stays unknown, and is judged so.
		bpf_probe_read_user(&family, sizeof(family), (void *)second_argument(regs));
		judge(family);
		return 0;
	default:
		return 0;
	}
}

// socketcall(2) reads its arguments after `family_enter` did: another thread may have changed them in between. So what
// was made is looked at too.
SEC("tp_btf/sys_exit")
int BPF_PROG(family_exit, struct pt_regs *regs, long made)
{
	if (made < 0 || call_of(number_of(regs)) != CALL_SOCKETCALL || first_argument(regs) != SYS_SOCKET)
		return 0;
	u32 family = family_of(made);
	judge(family ? family : FAMILY_UNKNOWN);
	return 0;
}

SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(family_uring, struct io_kiocb *request)
{
	if (request->opcode != IORING_OP_SOCKET)
		return 0;
	struct io_socket *arguments = (struct io_socket *)&request->cmd;
	judge(family_for(BPF_CORE_READ(arguments, domain), BPF_CORE_READ(arguments, type)));
	return 0;
}
