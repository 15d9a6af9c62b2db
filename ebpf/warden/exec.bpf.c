// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// Which program a workload's process executes, noted as it connects or sends: the later look at /proc is compared to it.
//
// A process may execute another program between its connect() and that look, and the one who calls may be a child. What
// is noted here is of the moment. It is told from the exec itself, where that was seen in an enrolled cgroup: the link
// /proc/PID/exe can be set by prctl() in a user namespace. Children inherit it. A process that was there before its
// cgroup was enrolled, or that came in later, is taken for what it executes when it first connects.
//
// Which program executed which is kept too (lineage.h), at the exec: connect() has no part in it.
#include "lineage.h"

// Of enrolled processes alone: programs write, programs and the agent read. Where it is full, the note is taken as of
// one that came in later. Its name stands for its layout, as it outlives the agent.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u32);
	__type(value, struct execution);
} PROCESSES SEC(".maps");

// The map of ebpf/redirect, taken over by its pin. Must be `SocketState` of ebpf/common and what is in it.
struct executed {
	u64 start_ns;
	u64 inode;
	u32 device;
	u32 pid;
};
struct origin {
	u32 destination[4];
	u64 enrolled;
	u64 cgroup;
	u64 netns;
	u64 socket;
	u64 connected_ns;
	u64 stored_ns;
	u32 pid;
	u32 uid;
	u32 gid;
	u16 port;
	u16 contested;
	u32 pending;
	u32 padding;
	struct executed executed;
};
struct socket_state {
	struct origin origin;
	u32 peer[4];
	u32 peer_port;
	u32 phase;
};
_Static_assert(sizeof(struct socket_state) == 136, "ebpf/common/src/origin.rs");
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct socket_state);
} SOCKETS SEC(".maps");

// Of the process of `task`, which executes `file`.
static __always_inline struct execution execution_of(struct task_struct *task, struct file *file)
{
	struct execution execution = {};
	execution.start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	execution.number = BPF_CORE_READ(task, self_exec_id);
	execution.inode = BPF_CORE_READ(file, f_inode, i_ino);
	execution.device = BPF_CORE_READ(file, f_inode, i_sb, s_dev);
	return execution;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(exec_done, struct task_struct *task, s32 before, struct linux_binprm *program)
{
	u32 pid = task->tgid;
	if (!place_of_current().enrolled) {
		bpf_map_delete_elem(&PROCESSES, &pid);
		return 0;
	}
	struct execution execution = execution_of(task, program->file);
	struct execution *known = bpf_map_lookup_elem(&PROCESSES, &pid);
	// Noted already: while an agent takes over from another one, the programs of both run.
	if (known && known->start_ns == execution.start_ns && known->number == execution.number)
		return 0;
	execution.id = descend(&execution, known, pid, program);
	if (bpf_map_update_elem(&PROCESSES, &pid, &execution, BPF_ANY))
		note_loss();
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(exec_fork, struct task_struct *parent, struct task_struct *child)
{
	u32 from = parent->tgid, to = child->tgid;
	if (from == to)
		return 0;
	struct execution *known = bpf_map_lookup_elem(&PROCESSES, &from);
	if (!known || known->number != parent->self_exec_id)
		return 0;
	struct execution execution = *known;
	execution.start_ns = child->start_boottime;
	execution.number = child->self_exec_id;
	if (bpf_map_update_elem(&PROCESSES, &to, &execution, BPF_ANY))
		note_loss();
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(exec_exit, struct task_struct *task)
{
	u32 pid = task->tgid;
	// The last thread of its process.
	if (BPF_CORE_READ(task, signal, live.counter) == 0)
		bpf_map_delete_elem(&PROCESSES, &pid);
	return 0;
}

// Runs behind the programs of ebpf/redirect, which stand at the enrolled cgroups below: they have noted who asks, or have
// refused, or the socket is of no enrolled cgroup.
static __always_inline int note(struct bpf_sock_addr *ctx)
{
	if (!ctx->sk)
		return 1;
	struct socket_state *state = bpf_sk_storage_get(&SOCKETS, ctx->sk, 0, 0);
	if (!state)
		return 1;
	struct task_struct *task = bpf_get_current_task_btf();
	u32 pid = task->tgid;
	if (state->origin.pid != pid)
		return 1;
	struct execution *known = bpf_map_lookup_elem(&PROCESSES, &pid);
	struct execution now;
	if (known && known->number == task->self_exec_id && known->start_ns == task->group_leader->start_boottime) {
		now = *known;
	} else {
		now = execution_of(task, BPF_CORE_READ(task, mm, exe_file));
		bpf_map_update_elem(&PROCESSES, &pid, &now, BPF_ANY);
	}
	state->origin.executed.start_ns = now.start_ns;
	state->origin.executed.inode = now.inode;
	state->origin.executed.device = now.device;
	state->origin.executed.pid = pid;
	return 1;
}

SEC("cgroup/connect4")
int exec_connect4(struct bpf_sock_addr *ctx)
{
	return note(ctx);
}

SEC("cgroup/connect6")
int exec_connect6(struct bpf_sock_addr *ctx)
{
	return note(ctx);
}

SEC("cgroup/sendmsg4")
int exec_sendmsg4(struct bpf_sock_addr *ctx)
{
	return note(ctx);
}

SEC("cgroup/sendmsg6")
int exec_sendmsg6(struct bpf_sock_addr *ctx)
{
	return note(ctx);
}
