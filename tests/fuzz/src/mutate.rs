//! Changes seeds by chance, the same way in every run: a failure of one machine is a failure of all.

/// Pieces of text that one of the readers cares about.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"/",
    b"//",
    b"..",
    b"%2e",
    b"%2F",
    b"%25",
    b"%",
    b";",
    b"@",
    b"?",
    b"&",
    b"=",
    b"[]",
    b"[::1]",
    b"\"",
    b"\\",
    b"\\u0040",
    b"\\ud83d",
    b"\\\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"null",
    b"-1",
    b"1e309",
    b"9007199254740993",
    b"0",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"Host: a\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Upgrade: x\r\n",
    b"0\r\n\r\n",
    b"eyJ",
    b".",
    b"\"iss\":\"a\",",
    b"\"alg\":\"none\",",
    b"-----BEGIN PRIVATE KEY-----",
    b"-----END",
    b"a@b.example",
    b"4111 1111 1111 1111",
    b"AKIAIOSFODNN7EXAMPLE",
];

/// Most changes to one input.
const CHANGES_MAX: u64 = 4;
/// Longest input that grows still. Unit: bytes. Source: ours; what matters of every format fits.
const GROWS_TO: usize = 8 * 1024;

/// A source of chance that always says the same: xorshift64* (Vigna, 2016).
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// Begins at a number and a name.
    #[must_use]
    pub fn new(number: u64, name: &str) -> Self {
        // FNV-1a, and never 0, at which xorshift would stay.
        let seed = name.bytes().chain(number.to_le_bytes());
        Self(seed.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// A mutation of `seed`; `others` are the seeds that pieces are taken from.
#[must_use]
pub fn mutate(seed: &[u8], others: &[&[u8]], chance: &mut Chance) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=chance.next() % CHANGES_MAX {
        change(&mut data, others, chance);
    }
    data
}

fn change(data: &mut Vec<u8>, others: &[&[u8]], chance: &mut Chance) {
    let at = chance.below(data.len() + 1);
    let to = at + chance.below((data.len() - at).min(32) + 1);
    match chance.below(8) {
        0 if at < data.len() => data[at] ^= 1 << chance.below(8),
        1 if at < data.len() => data[at] = chance.next() as u8,
        2 => drop(data.drain(at..to)),
        3 => data.truncate(at),
        _ if data.len() > GROWS_TO => data.truncate(at),
        4 => {
            let copy = data[at..to].to_vec();
            let place = chance.below(data.len() + 1);
            data.splice(place..place, copy);
        }
        5 => {
            let other = others[chance.below(others.len())];
            let from = chance.below(other.len() + 1);
            let upto = from + chance.below(other.len() - from + 1);
            data.splice(at..to, other[from..upto].iter().copied());
        }
        _ => {
            let word = WORDS[chance.below(WORDS.len())];
            let over = chance.below(2) * (to - at);
            data.splice(at..at + over, word.iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_the_same_every_time_and_much_else_otherwise() {
        let of = |number| mutate(b"GET / HTTP/1.1", &[b"other"], &mut Chance::new(number, "x"));
        let all: std::collections::BTreeSet<_> = (0..1000).map(of).collect();
        assert_eq!(of(7), of(7));
        assert!(all.len() > 800, "{}", all.len());
    }
}
