// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//
// Families without a hook, refused: `socket()` of an enrolled task fails for all but IP, unix and route sockets.
//
// Used where BPF LSM loads; elsewhere calls.bpf.c ends the task instead.
#include "families.h"

#define EPROTONOSUPPORT 93
#define EAFNOSUPPORT 97

SEC("lsm/socket_create")
int BPF_PROG(family_create, int family, int type, int protocol, int kern, int before)
{
	// Another module refused, or the kernel makes it for itself.
	if (before || kern)
		return before;
	struct asked asked = asked_for(family, type, protocol);
	if (is_fine(asked))
		return 0;
	struct place place = place_of_current();
	if (!place.enrolled || !refuse_family(asked, place))
		return 0;
	return family == AF_NETLINK ? -EPROTONOSUPPORT : -EAFNOSUPPORT;
}
