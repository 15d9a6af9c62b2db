"""Somebody else who works with bpf(2) at a cgroup: not through Callgate, and not with its libraries.

attach CGROUP PORT   attaches a program that refuses connect() to PORT over IPv4; prints its id
query CGROUP         prints the ids of the programs for connect() over IPv4
forget CGROUP MAP    deletes the entry of CGROUP from the pinned map MAP, whose keys are ids of cgroups
detach CGROUP ID...  detaches every link at CGROUP but those to these programs; prints how many
entries PIN          prints how many entries the pinned hash map has, of keys of 8 bytes
"""

import ctypes
import os
import struct
import sys

SYSCALLS = {"x86_64": 321, "aarch64": 280}
MAP_DELETE_ELEM, MAP_GET_NEXT_KEY, OBJ_GET = 3, 4, 7
PROG_LOAD, PROG_ATTACH, OBJ_GET_INFO_BY_FD, PROG_QUERY = 5, 8, 15, 16
LINK_GET_FD_BY_ID, LINK_GET_NEXT_ID, LINK_DETACH = 30, 31, 34
PROG_TYPE_CGROUP_SOCK_ADDR, CGROUP_INET4_CONNECT, ALLOW_MULTI = 18, 10, 2
LINK_TYPE_CGROUP = 3

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes.ljust(144, b"\0"), 144)
    done = libc.syscall(SYSCALLS[os.uname().machine], command, buffer, 144)
    if done < 0:
        raise OSError(ctypes.get_errno(), f"bpf command {command}")
    return done, buffer.raw


def info(fd, size):
    room = ctypes.create_string_buffer(size)
    bpf(OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", fd, size, ctypes.addressof(room)))
    return room.raw


def instruction(code, dst, src, offset, immediate):
    return struct.pack("=BBhi", code, src << 4 | dst, offset, immediate)


def attach(cgroup, port):
    swapped = struct.unpack("<H", struct.pack(">H", port))[0]
    program = b"".join([
        instruction(0x61, 2, 1, 24, 0),  # r2 = context->user_port
        instruction(0xB7, 0, 0, 0, 1),  # r0 = 1
        instruction(0x55, 2, 0, 1, swapped),  # unless r2 == port, over the next
        instruction(0xB7, 0, 0, 0, 0),  # r0 = 0
        instruction(0x95, 0, 0, 0, 0),
    ])
    code, licence = ctypes.create_string_buffer(program), ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack("=IIQQ", PROG_TYPE_CGROUP_SOCK_ADDR, len(program) // 8,
                             ctypes.addressof(code), ctypes.addressof(licence)).ljust(68, b"\0")
    fd, _ = bpf(PROG_LOAD, attributes + struct.pack("=I", CGROUP_INET4_CONNECT))
    bpf(PROG_ATTACH, struct.pack("=IIII", cgroup, fd, CGROUP_INET4_CONNECT, ALLOW_MULTI))
    return struct.unpack_from("=II", info(fd, 64))[1]


def query(cgroup):
    ids = (ctypes.c_uint32 * 64)()
    _, answer = bpf(PROG_QUERY, struct.pack("=IIIIQI", cgroup, CGROUP_INET4_CONNECT, 0, 0, ctypes.addressof(ids), 64))
    return list(ids)[:struct.unpack_from("=I", answer, 24)[0]]


def detach(cgroup, kept):
    wanted, link, detached = os.fstat(cgroup).st_ino, 0, 0
    while True:
        try:
            _, answer = bpf(LINK_GET_NEXT_ID, struct.pack("=I", link))
        except FileNotFoundError:
            return detached
        link = struct.unpack_from("=I", answer, 4)[0]
        try:
            fd, _ = bpf(LINK_GET_FD_BY_ID, struct.pack("=I", link))
        except FileNotFoundError:
            continue
        told = info(fd, 64)
        kind, _, program = struct.unpack_from("=III", told)
        if kind == LINK_TYPE_CGROUP and struct.unpack_from("=Q", told, 16)[0] == wanted and program not in kept:
            bpf(LINK_DETACH, struct.pack("=I", fd))
            detached += 1
        os.close(fd)


def forget(cgroup, pin):
    path = ctypes.create_string_buffer(pin.encode())
    found, _ = bpf(OBJ_GET, struct.pack("=QI", ctypes.addressof(path), 0))
    key = ctypes.create_string_buffer(struct.pack("=Q", os.fstat(cgroup).st_ino))
    bpf(MAP_DELETE_ELEM, struct.pack("=IIQ", found, 0, ctypes.addressof(key)))
    return "forgotten"


def entries(pin):
    path, key, following = ctypes.create_string_buffer(pin.encode()), None, ctypes.create_string_buffer(8)
    fd, _ = bpf(OBJ_GET, struct.pack("=QII", ctypes.addressof(path), 0, 0))
    count = 0
    while True:
        asked = ctypes.addressof(key) if key else 0
        try:
            bpf(MAP_GET_NEXT_KEY, struct.pack("=IIQQ", fd, 0, asked, ctypes.addressof(following)))
        except FileNotFoundError:
            return count
        key, following, count = following, ctypes.create_string_buffer(8), count + 1


if sys.argv[1] == "entries":
    print(entries(sys.argv[2]))
    sys.exit()
what, folder = sys.argv[1], os.open(sys.argv[2], os.O_RDONLY)
if what == "attach":
    print(attach(folder, int(sys.argv[3])))
elif what == "forget":
    print(forget(folder, sys.argv[3]))
elif what == "query":
    print(*query(folder))
else:
    print(detach(folder, [int(word) for word in sys.argv[3:]]))
