//! Cuts bytes into pieces: whoever reads a stream must say the same of it however it arrives.

/// Most places where an input is cut in two. Source: ours; other mutations of the same seed are cut elsewhere.
const CUTS_MAX: usize = 16;

/// Calls `read` with the input byte by byte, cut in two at up to 16 places, and once in pieces of growing length.
pub fn each<'a>(data: &'a [u8], mut read: impl FnMut(&[&'a [u8]])) {
    read(&data.chunks(1).collect::<Vec<_>>());
    let step = data.len() / CUTS_MAX + 1;
    // Where the first cut is depends on the content, so that equal lengths are not always cut alike.
    let first = data.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte))) % step;
    for at in (first..data.len()).step_by(step) {
        let (head, tail) = data.split_at(at);
        read(&[head, tail]);
    }
    let (mut pieces, mut rest, mut length) = (Vec::new(), data, 1);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        (rest, length) = (after, length + 2);
    }
    read(&pieces);
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_way_gives_the_same_bytes() {
        for length in 0..100_u8 {
            let data: Vec<u8> = (0..length).collect();
            let mut ways = 0;
            super::each(&data, |pieces| {
                assert_eq!(pieces.concat(), data);
                ways += 1;
            });
            assert!((2..=3 + super::CUTS_MAX).contains(&ways));
        }
    }
}
