// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// Iterators over sockets: what an enrolled cgroup owns, what enrolled tasks hold, and destroying what the agent names.
//
// `tcp` and `udp` walk the network namespace of whoever reads them, `files` the descriptors of all tasks. Each writes
// one record a socket. The first two also destroy the sockets whose cookies are in `DOOMED`. Nothing is decided here:
// which socket is an outbound connection, and which was made elsewhere, is told by user space from the records.
#include "warden.h"

#define TCP_ESTABLISHED 1
#define TCP_TIME_WAIT 6
#define TCP_CLOSE 7
#define TCP_LISTEN 10
#define TCP_NEW_SYN_RECV 12
// The socket's port was chosen by bind(). Source: include/net/sock.h.
#define SOCK_BINDPORT_LOCK 8

// Since Linux 6.5; without it the agent destroys through netlink.
extern int bpf_sock_destroy(struct sock_common *) __ksym __weak;

// Cookies of sockets to destroy: the agent writes, programs read.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, u32);
} DOOMED SEC(".maps");

// One socket. Must be `Record` of agent/warden.
struct record {
	u64 cookie;
	// Deepest enrolled cgroup above the socket's; 0: none.
	u64 enrolled;
	// The socket's own cgroup.
	u64 cgroup;
	// Deepest enrolled cgroup above the task that holds it; 0: not known, as there is no task.
	u64 holder;
	// The network namespace: its cookie, and below the inode of its file.
	u64 netns_cookie;
	// Whether that one only observes.
	u32 observed;
	u32 netns;
	u32 pid;
	u32 fd;
	u32 family;
	u32 socket_type;
	u32 protocol;
	u32 state;
	u32 device;
	u32 port_locked;
	u32 source_port;
	u32 destination_port;
	u32 source[4];
	u32 destination[4];
};
_Static_assert(sizeof(struct record) == 120, "agent/warden/src/kernel.rs");

static __always_inline void describe(struct record *record, struct sock *sk)
{
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	record->cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup, kn, id);
	record->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	record->netns_cookie = BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie);
	record->family = family;
	record->socket_type = BPF_CORE_READ(sk, sk_type);
	record->protocol = BPF_CORE_READ(sk, sk_protocol);
	record->state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (family != AF_INET && family != AF_INET6)
		return;
	record->device = BPF_CORE_READ(sk, __sk_common.skc_bound_dev_if);
	record->port_locked = !!(BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK);
	record->source_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	record->destination_port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (family == AF_INET) {
		record->source[2] = record->destination[2] = __builtin_bswap32(0xffff);
		record->source[3] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		record->destination[3] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	} else {
		BPF_CORE_READ_INTO(&record->source, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32);
		BPF_CORE_READ_INTO(&record->destination, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
	}
}

// Whether a socket found in its namespace is to be destroyed, after it was written. False too when the buffer is full:
// then the kernel shows the same socket again.
static __always_inline bool judge(struct seq_file *seq, struct sock *sk, u64 cookie)
{
	struct record record = { .cookie = cookie };
	bool doomed = bpf_map_lookup_elem(&DOOMED, &cookie);
	record.enrolled = place_of_cgroup(BPF_CORE_READ(sk, sk_cgrp_data.cgroup)).enrolled;
	if (!doomed && !record.enrolled)
		return false;
	describe(&record, sk);
	return bpf_seq_write(seq, &record, sizeof(record)) == 0 && doomed;
}

SEC("iter/tcp")
int tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	if (!common)
		return 0;
	u8 state = common->skc_state;
	// These are no whole sockets.
	if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV)
		return 0;
	if (judge(ctx->meta->seq, (struct sock *)common, bpf_get_socket_cookie(common)) &&
	    bpf_ksym_exists(bpf_sock_destroy))
		bpf_sock_destroy(common);
	return 0;
}

SEC("iter/udp")
int udp(struct bpf_iter__udp *ctx)
{
	struct udp_sock *udp = ctx->udp_sk;
	if (!udp)
		return 0;
	struct sock *sk = &udp->inet.sk;
	if (judge(ctx->meta->seq, sk, bpf_get_socket_cookie(sk)) && bpf_ksym_exists(bpf_sock_destroy))
		bpf_sock_destroy((struct sock_common *)sk);
	return 0;
}

// Sockets that enrolled tasks hold and that are not of an enrolled cgroup, of no kind that has a hook, or of another
// network namespace than the task.
SEC("iter/task_file")
int files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	if (!task || !file)
		return 0;
	struct socket *socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	struct sock *sk = socket->sk;
	if (!sk)
		return 0;
	u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family == AF_UNIX || (family == AF_NETLINK && !BPF_CORE_READ(sk, sk_protocol)))
		return 0;
	struct place holder = place_of_cgroup(BPF_CORE_READ(task, cgroups, dfl_cgrp));
	if (!holder.enrolled)
		return 0;
	struct record record = {};
	record.enrolled = place_of_cgroup(BPF_CORE_READ(sk, sk_cgrp_data.cgroup)).enrolled;
	describe(&record, sk);
	bool hooked = (family == AF_INET || family == AF_INET6) &&
		      ((record.socket_type == SOCK_STREAM && record.protocol == IPPROTO_TCP) ||
		       (record.socket_type == SOCK_DGRAM && record.protocol == IPPROTO_UDP));
	// One of its own is found by the others, unless it is of a namespace that no task is in.
	if (hooked && record.enrolled && record.netns == BPF_CORE_READ(task, nsproxy, net_ns, ns.inum))
		return 0;
	record.cookie = bpf_get_socket_cookie(sk);
	record.holder = holder.enrolled;
	record.observed = holder.observed;
	record.pid = BPF_CORE_READ(task, tgid);
	record.fd = ctx->fd;
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}
