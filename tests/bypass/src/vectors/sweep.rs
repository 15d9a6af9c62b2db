//! Every (family, type, protocol) triple, one line a family: whatever `socket()` gives that is no TCP, UDP or unix socket.

use std::io;

use crate::{Order, Said, Vector, sys};

/// Families that there can be. Source: AF_MAX is 46 in Linux 6.18.
const FAMILIES: usize = 46;
/// Types (linux/net.h): stream, datagram, raw, RDM, packets in order, DCCP, packet.
const TYPES: [i32; 7] = [1, 2, 3, 4, 5, 6, 10];
/// Protocols with a number above 255 that are tried too: SMC, MPTCP.
const FAR_PROTOCOLS: [i32; 2] = [256, 262];
/// Triples that are told by number.
const TOLD: usize = 4;

/// Unix sockets stay on the host; what answers there is tried by the rows on helpers outside.
const UNIX: usize = libc::AF_UNIX as usize;

const NAMES: [&str; FAMILIES] = [
    "sweep_unspec",
    "",
    "sweep_inet",
    "sweep_ax25",
    "sweep_ipx",
    "sweep_appletalk",
    "sweep_netrom",
    "sweep_bridge",
    "sweep_atmpvc",
    "sweep_x25",
    "sweep_inet6",
    "sweep_rose",
    "sweep_decnet",
    "sweep_netbeui",
    "sweep_security",
    "sweep_key",
    "sweep_netlink",
    "sweep_packet",
    "sweep_ash",
    "sweep_econet",
    "sweep_atmsvc",
    "sweep_rds",
    "sweep_sna",
    "sweep_irda",
    "sweep_pppox",
    "sweep_wanpipe",
    "sweep_llc",
    "sweep_ib",
    "sweep_mpls",
    "sweep_can",
    "sweep_tipc",
    "sweep_bluetooth",
    "sweep_iucv",
    "sweep_rxrpc",
    "sweep_isdn",
    "sweep_phonet",
    "sweep_ieee802154",
    "sweep_caif",
    "sweep_alg",
    "sweep_nfc",
    "sweep_vsock",
    "sweep_kcm",
    "sweep_qipcrtr",
    "sweep_smc",
    "sweep_xdp",
    "sweep_mctp",
];

/// All families but the unix one.
pub const ROWS: &[Vector] = &ALL;

const ALL: [Vector; FAMILIES - 1] = {
    let mut rows = [Vector::new("", "every triple of this family", sweep).judges_itself(); FAMILIES - 1];
    let (mut family, mut row) = (0, 0);
    while family < FAMILIES {
        if family != UNIX {
            rows[row] = Vector { name: NAMES[family], argument: family as i64, ..rows[row] };
            row += 1;
        }
        family += 1;
    }
    rows
};

fn sweep(_: &Order, family: i64) -> io::Result<Said> {
    let family = family as i32;
    let (mut got, mut count, mut last) = (String::new(), 0, None);
    'all: for kind in TYPES {
        for protocol in (0..256).chain(FAR_PROTOCOLS) {
            // Closing some of them takes the kernel milliseconds; more of the same tell nothing new.
            if count > TOLD {
                break 'all;
            }
            if is_expected(family, kind, protocol) {
                continue;
            }
            match sys::socket(family, kind, protocol) {
                Ok(_) => {
                    count += 1;
                    if count <= TOLD {
                        got.push_str(&format!("{}{kind}/{protocol}", if count == 1 { "" } else { ", " }));
                    }
                }
                Err(error) => last = most_telling(last, error.raw_os_error()),
            }
        }
    }
    match count {
        0 => Err(io::Error::from_raw_os_error(last.unwrap_or(libc::EINVAL))),
        _ if count > TOLD => Ok(Said::Breached(format!("type/protocol {got} and more"))),
        _ => Ok(Said::Breached(format!("type/protocol {got}"))),
    }
}

/// What every workload may have: TCP and UDP, which later hooks see, and netlink for reading routes.
fn is_expected(family: i32, kind: i32, protocol: i32) -> bool {
    match family {
        libc::AF_INET | libc::AF_INET6 => matches!((kind, protocol), (1, 0 | 6) | (2, 0 | 17)),
        libc::AF_NETLINK => protocol == libc::NETLINK_ROUTE,
        _ => false,
    }
}

/// A family that is not there says nothing else; a refusal says more than a triple that makes no sense.
fn most_telling(known: Option<i32>, next: Option<i32>) -> Option<i32> {
    let rank = |errno: Option<i32>| match errno {
        None => 0,
        Some(libc::EAFNOSUPPORT) => 1,
        Some(libc::ESOCKTNOSUPPORT | libc::EINVAL) => 2,
        Some(libc::EPROTONOSUPPORT) => 3,
        Some(_) => 4,
    };
    if rank(next) > rank(known) { next } else { known }
}
