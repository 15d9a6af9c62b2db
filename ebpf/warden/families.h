// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// Which sockets an enrolled task may ask for: those with hooks, unix sockets, and of netlink the protocol of routes.
//
// Shared by lsm.bpf.c, which refuses the others, and calls.bpf.c, which ends the task.
#ifndef FAMILIES_H
#define FAMILIES_H

#include "warden.h"

// The old way to a packet socket: AF_INET with this type. Sources: linux/net.h; the kernel turns it into AF_PACKET.
#define SOCK_PACKET 10
#define SOCK_TYPE_MASK 0xf
// Lists interfaces and routes: the C library asks it. To change a route takes CAP_NET_ADMIN. Source: uapi/linux/netlink.h.
#define NETLINK_ROUTE 0

// Bits of `RULES`. Must be those of agent/warden's `parts.rs`.
#define RULE_NETLINK_REPORTED 1
#define RULE_FAMILIES_ELSEWHERE 2

// What the agent's configuration says; it writes before it loads.
const volatile u32 RULES = 0;

// What a task asked for.
struct asked {
	u32 family;
	u32 type;
	u32 protocol;
};

// As the kernel will take it.
static __always_inline struct asked asked_for(u32 family, u32 type, u32 protocol)
{
	struct asked asked = { family, type & SOCK_TYPE_MASK, protocol };
	if (family == AF_INET && asked.type == SOCK_PACKET)
		asked.family = AF_PACKET;
	return asked;
}

static __always_inline bool is_fine(struct asked asked)
{
	switch (asked.family) {
	case AF_UNIX:
	case AF_INET:
	case AF_INET6:
		return true;
	case AF_NETLINK:
		return asked.protocol == NETLINK_ROUTE;
	default:
		return false;
	}
}

// Tells of a socket that is not fine; whether it is to be refused.
static __always_inline bool refuse_family(struct asked asked, struct place place)
{
	if (asked.family == AF_NETLINK && RULES & RULE_NETLINK_REPORTED)
		place.observed = true;
	struct event *event = event_of_current(KIND_FAMILY, place);
	if (event) {
		event->family = asked.family;
		event->socket_type = asked.type;
		event->protocol = asked.protocol;
		bpf_ringbuf_submit(event, 0);
	}
	return !place.observed;
}

#endif
