// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// Numbers and arguments of the system calls that the warden looks at, for 64-bit tasks and for 32-bit ones.
//
// The tracepoint raw_syscalls sees both; those of one system call (`syscalls/sys_exit_socket`) leave 32-bit tasks out.
#ifndef CALLS_H
#define CALLS_H

#include "warden.h"

enum call {
	CALL_NONE,
	CALL_SOCKET,
	CALL_SOCKETPAIR,
	// 32-bit x86 alone: the call and the address of its arguments are the arguments.
	CALL_SOCKETCALL,
	CALL_PIDFD_GETFD,
};

#if defined(__TARGET_ARCH_x86)

// The task is inside of a 32-bit system call, whatever its own bitness. Source: arch/x86/include/asm/thread_info.h.
#define TS_COMPAT 2

static __always_inline bool is_compat(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	return task->thread_info.status & TS_COMPAT;
}

// The x32 calls have the numbers of the 64-bit ones with this bit. Source: uapi/asm/unistd.h.
#define X32 0x40000000

// The number alone leaves all but six calls out; only then the task is asked for its bitness.
static __always_inline enum call call_of(struct pt_regs *regs)
{
	switch ((u32)regs->orig_ax & ~X32) {
	case 41:
		return is_compat() ? CALL_NONE : CALL_SOCKET;
	case 53:
		return is_compat() ? CALL_NONE : CALL_SOCKETPAIR;
	case 102:
		return is_compat() ? CALL_SOCKETCALL : CALL_NONE;
	case 359:
		return CALL_SOCKET;
	case 360:
		return CALL_SOCKETPAIR;
	case 438:
		return CALL_PIDFD_GETFD;
	default:
		return CALL_NONE;
	}
}

static __always_inline bool is_plain(struct pt_regs *regs)
{
	u64 number = regs->orig_ax;
	return (number == 0 || number == 19 || number == 45) && !is_compat();
}

static __always_inline u64 first_argument(struct pt_regs *regs)
{
	return is_compat() ? (u32)regs->bx : regs->di;
}

static __always_inline u64 second_argument(struct pt_regs *regs)
{
	return is_compat() ? (u32)regs->cx : regs->si;
}

static __always_inline u64 third_argument(struct pt_regs *regs)
{
	return regs->dx;
}

#elif defined(__TARGET_ARCH_arm64)

// Source: arch/arm64/include/asm/thread_info.h.
#define TIF_32BIT 22

static __always_inline bool is_compat(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	return task->thread_info.flags & (1UL << TIF_32BIT);
}

// The number alone leaves all but five calls out; only then the task is asked for its bitness.
static __always_inline enum call call_of(struct pt_regs *regs)
{
	switch (regs->syscallno) {
	case 198:
		return is_compat() ? CALL_NONE : CALL_SOCKET;
	case 199:
		return is_compat() ? CALL_NONE : CALL_SOCKETPAIR;
	case 281:
		return is_compat() ? CALL_SOCKET : CALL_NONE;
	case 288:
		return is_compat() ? CALL_SOCKETPAIR : CALL_NONE;
	case 438:
		return CALL_PIDFD_GETFD;
	default:
		return CALL_NONE;
	}
}

static __always_inline bool is_plain(struct pt_regs *regs)
{
	s32 number = regs->syscallno;
	return (number == 63 || number == 65 || number == 207) && !is_compat();
}

static __always_inline u64 first_argument(struct pt_regs *regs)
{
	return regs->orig_x0;
}

static __always_inline u64 second_argument(struct pt_regs *regs)
{
	return regs->user_regs.regs[1];
}

static __always_inline u64 third_argument(struct pt_regs *regs)
{
	return regs->user_regs.regs[2];
}

#else
#error "no system call numbers for this architecture"
#endif

// The calls of socketcall(2). Source: uapi/linux/net.h.
#define SYS_SOCKET 1
#define SYS_SOCKETPAIR 8

// The socket behind the current task's descriptor `fd`; null: there is none, or it is no socket.
static __always_inline struct sock *socket_at(u32 fd)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	if (fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	struct file **slots = BPF_CORE_READ(table, fd);
	struct file *file = 0;
	bpf_probe_read_kernel(&file, sizeof(file), &slots[fd]);
	struct socket *socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

#endif
