// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// Families without a hook, refused: `socket()` of an enrolled task fails for all but IP, unix and netlink sockets.
//
// Used where BPF LSM loads; elsewhere families.bpf.c ends the task instead.
#include "warden.h"

#define EAFNOSUPPORT 97

SEC("lsm/socket_create")
int BPF_PROG(family_create, int family, int type, int protocol, int kern, int before)
{
	// Another module refused, or the kernel makes it for itself.
	if (before || kern)
		return before;
	if (family == AF_INET || family == AF_INET6 || family == AF_UNIX || family == AF_NETLINK)
		return 0;
	struct place place = place_of_current();
	if (!place.enrolled)
		return 0;
	struct event *event = event_of_current(KIND_FAMILY, place);
	if (event) {
		event->family = family;
		event->socket_type = type;
		event->protocol = protocol;
		bpf_ringbuf_submit(event, 0);
	}
	return place.observed ? 0 : -EAFNOSUPPORT;
}
