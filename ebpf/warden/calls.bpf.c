// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// System calls that no hook sees: an enrolled task that made a packet, vsock, CAN or other socket without one is ended.
//
// `cgroup/sock_create` runs for AF_INET and AF_INET6 alone. Where BPF LSM does not load (see lsm.bpf.c), a tracepoint is
// left, which cannot refuse. It can signal: the task dies on its way back to user space, before it can use the
// descriptor. Another process that shares its descriptors (CLONE_FILES) is found by `files` in sockets.bpf.c, which the
// agent reads after each of these events. The way back is enough: a call that failed made nothing.
//
// This runs at the end of every system call of the host, so the number comes first, and nothing before it.
#include "arrivals.h"
#include "calls.h"
#include "families.h"

#define SIGKILL 9
// Reported as the family where it could not be read.
#define FAMILY_UNKNOWN 0xffffffff
// Source: uapi/linux/io_uring.h.
#define IORING_OP_SOCKET 45

static __always_inline void judge(struct asked asked, struct place place)
{
	if (place.enrolled && !is_fine(asked) && refuse_family(asked, place))
		bpf_send_signal(SIGKILL);
}

// socketcall(2) has its arguments in memory, which another thread may have changed since. So what was made is looked at
// too; and as that descriptor may be another one by now, the agent looks at all that the process holds.
static __always_inline void judge_socketcall(struct pt_regs *regs, long made)
{
	u32 words[3] = { FAMILY_UNKNOWN, 0, 0 };
	u32 call = first_argument(regs);
	if (call != SYS_SOCKET && call != SYS_SOCKETPAIR)
		return;
	struct place place = place_of_current();
	if (!place.enrolled)
		return;
	bpf_probe_read_user(words, sizeof(words), (void *)second_argument(regs));
	struct asked asked = asked_for(words[0], words[1], words[2]);
	if (is_fine(asked) && call == SYS_SOCKET) {
		struct sock *sk = socket_at(made);
		asked.family = sk ? BPF_CORE_READ(sk, __sk_common.skc_family) : FAMILY_UNKNOWN;
		asked.type = BPF_CORE_READ(sk, sk_type);
		asked.protocol = BPF_CORE_READ(sk, sk_protocol);
	}
	judge(asked, place);
	tell_of_current(place);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(call_exit, struct pt_regs *regs, long result)
{
	enum call call = call_of(regs);
	if (call == CALL_NONE || result < 0)
		return 0;
	if (call == CALL_PIDFD_GETFD) {
		tell_of_current(place_of_current());
		return 0;
	}
	if (RULES & RULE_FAMILIES_ELSEWHERE)
		return 0;
	if (call == CALL_SOCKETCALL) {
		judge_socketcall(regs, result);
		return 0;
	}
	struct asked asked = asked_for(first_argument(regs), second_argument(regs), third_argument(regs));
	if (!is_fine(asked))
		judge(asked, place_of_current());
	return 0;
}

SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(call_uring, struct io_kiocb *request)
{
	if (request->opcode != IORING_OP_SOCKET || RULES & RULE_FAMILIES_ELSEWHERE)
		return 0;
	struct io_socket *arguments = (struct io_socket *)&request->cmd;
	struct asked asked = asked_for(BPF_CORE_READ(arguments, domain), BPF_CORE_READ(arguments, type),
				       BPF_CORE_READ(arguments, protocol));
	if (!is_fine(asked))
		judge(asked, place_of_current());
	return 0;
}
