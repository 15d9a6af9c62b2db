// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// The guard by task: an enrolled task may not open a way out by a socket that another cgroup made.
//
// The hooks of ebpf/redirect follow the socket's cgroup, which is fixed at `socket()`. A task that enters an enrolled
// cgroup with an open socket, or is given one, is not seen by them. These programs stand at an ancestor of all enrolled
// cgroups and compare the two: the task is enrolled and the socket is not, so `connect()` and `sendmsg()` are refused.
// There is no twin at egress: packets also leave in softirq, where the current task is whoever was interrupted.
// A socket that is connected already passes no hook any more: see sockets.bpf.c.
#include "warden.h"

#define EPERM 1
#define PASS 1
#define REFUSE 0

// Since Linux 6.2.
extern void *bpf_cast_to_kern_ctx(void *) __ksym;

static __always_inline int guard(struct bpf_sock_addr *ctx, const u32 *destination)
{
	struct bpf_sock_addr_kern *kern = bpf_cast_to_kern_ctx(ctx);
	struct cgroup *made_in = kern->sk->sk_cgrp_data.cgroup;
	// Nearly always: made where the task is.
	if (made_in->kn->id == bpf_get_current_cgroup_id())
		return PASS;
	struct place task = place_of_current();
	if (!task.enrolled)
		return PASS;
	struct place socket = place_of_cgroup(made_in);
	if (socket.enrolled)
		return PASS;
	struct event *event = event_of_current(KIND_FOREIGN, task);
	if (event) {
		event->family = ctx->family;
		event->socket_type = ctx->type;
		event->protocol = ctx->protocol;
		event->port = __builtin_bswap16(ctx->user_port);
		event->netns = BPF_CORE_READ(kern, sk, __sk_common.skc_net.net, net_cookie);
		for (int i = 0; i < 4; i++)
			event->destination[i] = destination[i];
		bpf_ringbuf_submit(event, 0);
	}
	if (task.observed)
		return PASS;
	bpf_set_retval(-EPERM);
	return REFUSE;
}

static __always_inline int guard4(struct bpf_sock_addr *ctx)
{
	// In its v4-mapped form, as everywhere.
	u32 destination[4] = { 0, 0, __builtin_bswap32(0xffff), ctx->user_ip4 };
	return guard(ctx, destination);
}

static __always_inline int guard6(struct bpf_sock_addr *ctx)
{
	u32 destination[4] = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] };
	return guard(ctx, destination);
}

SEC("cgroup/connect4")
int guard_connect4(struct bpf_sock_addr *ctx)
{
	return guard4(ctx);
}

// Also runs for `::ffff:a.b.c.d`, which connect4 never sees.
SEC("cgroup/connect6")
int guard_connect6(struct bpf_sock_addr *ctx)
{
	return guard6(ctx);
}

SEC("cgroup/sendmsg4")
int guard_sendmsg4(struct bpf_sock_addr *ctx)
{
	return guard4(ctx);
}

SEC("cgroup/sendmsg6")
int guard_sendmsg6(struct bpf_sock_addr *ctx)
{
	return guard6(ctx);
}
