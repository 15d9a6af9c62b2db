//! The meter of HTTP/2 frames: the same count at every cut, and the count of a plain walk over the whole.

use callgate_wire::FrameMeter;

use crate::pieces;

pub fn run(data: &[u8]) -> bool {
    let idle = plain(data);
    assert_eq!(FrameMeter::new().push(data), idle);
    pieces::each(data, |pieces| {
        let mut meter = FrameMeter::new();
        assert_eq!(pieces.iter().map(|piece| meter.push(piece)).sum::<u32>(), idle);
    });
    idle > 0
}

/// Frames that carry nothing (RFC 9113 §4.1, §6), counted where all bytes are at hand.
fn plain(data: &[u8]) -> u32 {
    let mut rest = data.get(24..).unwrap_or_default();
    let mut idle = 0;
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (headers, data_frame, ends) = (head[3] == 1, head[3] == 0, head[4] & 1 == 1);
        let carries = headers || data_frame && (length > 0 || ends);
        idle += u32::from(!carries);
        rest = after.get(length..).unwrap_or_default();
    }
    idle
}
