// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// Numbers and arguments of the system calls that the warden looks at, for 64-bit tasks and for 32-bit ones.
//
// The tracepoints raw_syscalls see both; those of one system call (`syscalls/sys_enter_socket`) leave 32-bit tasks out.
#ifndef CALLS_H
#define CALLS_H

#include "warden.h"

enum call {
	CALL_NONE,
	CALL_SOCKET,
	CALL_SOCKETPAIR,
	// 32-bit x86 alone: the call and the address of its arguments are the arguments.
	CALL_SOCKETCALL,
	CALL_RECVMSG,
	CALL_RECVMMSG,
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

static __always_inline enum call call_of(long number)
{
	switch (number) {
	case 41:
		return is_compat() ? CALL_NONE : CALL_SOCKET;
	case 53:
		return is_compat() ? CALL_NONE : CALL_SOCKETPAIR;
	case 47:
		return is_compat() ? CALL_NONE : CALL_RECVMSG;
	case 299:
		return is_compat() ? CALL_NONE : CALL_RECVMMSG;
	case 438:
		return CALL_PIDFD_GETFD;
	case 102:
		return is_compat() ? CALL_SOCKETCALL : CALL_NONE;
	case 359:
		return CALL_SOCKET;
	case 360:
		return CALL_SOCKETPAIR;
	case 372:
		return CALL_RECVMSG;
	case 337:
	case 417:
		return CALL_RECVMMSG;
	default:
		return CALL_NONE;
	}
}

static __always_inline long number_of(struct pt_regs *regs)
{
	return (int)regs->orig_ax;
}

static __always_inline u64 first_argument(struct pt_regs *regs)
{
	return is_compat() ? (u32)regs->bx : regs->di;
}

static __always_inline u64 second_argument(struct pt_regs *regs)
{
	return is_compat() ? (u32)regs->cx : regs->si;
}

#elif defined(__TARGET_ARCH_arm64)

// Source: arch/arm64/include/asm/thread_info.h.
#define TIF_32BIT 22

static __always_inline bool is_compat(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	return task->thread_info.flags & (1UL << TIF_32BIT);
}

static __always_inline enum call call_of(long number)
{
	if (number == 438)
		return CALL_PIDFD_GETFD;
	if (is_compat()) {
		switch (number) {
		case 281:
			return CALL_SOCKET;
		case 288:
			return CALL_SOCKETPAIR;
		case 297:
			return CALL_RECVMSG;
		case 365:
		case 417:
			return CALL_RECVMMSG;
		default:
			return CALL_NONE;
		}
	}
	switch (number) {
	case 198:
		return CALL_SOCKET;
	case 199:
		return CALL_SOCKETPAIR;
	case 212:
		return CALL_RECVMSG;
	case 243:
		return CALL_RECVMMSG;
	default:
		return CALL_NONE;
	}
}

static __always_inline long number_of(struct pt_regs *regs)
{
	return regs->syscallno;
}

static __always_inline u64 first_argument(struct pt_regs *regs)
{
	return regs->orig_x0;
}

static __always_inline u64 second_argument(struct pt_regs *regs)
{
	return regs->user_regs.regs[1];
}

#else
#error "no system call numbers for this architecture"
#endif

// The calls of socketcall(2). Source: uapi/linux/net.h.
#define SYS_SOCKET 1
#define SYS_SOCKETPAIR 8
#define SYS_RECVMSG 17
#define SYS_RECVMMSG 19

// The family of the current task's descriptor `fd`; 0: no socket, or it cannot be told.
static __always_inline u32 family_of(u32 fd)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	if (fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	struct file **slots = BPF_CORE_READ(table, fd);
	struct file *file = 0;
	bpf_probe_read_kernel(&file, sizeof(file), &slots[fd]);
	struct socket *socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk, __sk_common.skc_family);
}

#endif
