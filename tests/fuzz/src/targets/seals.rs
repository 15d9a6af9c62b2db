//! The hash chain: an honest one holds, and whatever is done to it is named where it was done.

use callgate_seal::{FaultKind, Hash, Verifier, genesis, seal};

#[derive(Clone, PartialEq)]
struct Link {
    seq: u64,
    prev: Vec<u8>,
    hash: Vec<u8>,
    body: Vec<u8>,
}

/// The first three bytes say what is done to the chain; the rest are the bodies, a line each.
pub fn run(data: &[u8]) -> bool {
    let Some((&[what, which, how], bodies)) = data.split_first_chunk::<3>() else { return false };
    let honest = chain("node/agent", bodies);
    let (last, head) = verify("node/agent", &honest).expect("an honest chain holds");
    assert_eq!(last, honest.len() as u64);
    assert!(verify("node/other", &honest).is_err(), "a chain of another stream holds");

    let mut links = honest.clone();
    let at = usize::from(which) % links.len();
    let turn = |bytes: &mut Vec<u8>| {
        let place = usize::from(how) % bytes.len().max(1);
        match bytes.get_mut(place) {
            Some(byte) => *byte ^= 1 << (how % 8),
            None => bytes.push(how),
        }
    };
    match what % 8 {
        0 => turn(&mut links[at].body),
        1 => turn(&mut links[at].hash),
        2 => turn(&mut links[at].prev),
        3 => links[at].seq = links[at].seq.wrapping_add(u64::from(how)),
        4 => drop(links.remove(at)),
        5 => links.insert(at, links[at].clone()),
        6 => links[at..].reverse(),
        _ => {
            // The most that somebody without the head can do: change, and seal anew to the end.
            let mut bodies: Vec<Vec<u8>> = links.iter().map(|link| link.body.clone()).collect();
            turn(&mut bodies[at]);
            links = sealed("node/agent", &bodies);
        }
    }
    let same = links == honest;
    match verify("node/agent", &links) {
        Ok((last, found)) => {
            let mut verifier = Verifier::resume(last, found);
            let known = verifier.check_head(honest.len() as u64, &head);
            assert_eq!(known.is_ok(), same, "a change that nobody sees");
            // What follows the highest seq cannot be sealed to it.
            assert!(verifier.check(u64::MAX, head.as_bytes(), head.as_bytes(), b"").is_err());
        }
        Err((place, kind)) => {
            assert!(!same, "an honest chain is faulted");
            let first = links.iter().zip(&honest).position(|(link, honest)| link != honest).unwrap_or(honest.len());
            assert_eq!(place, first, "the fault {kind:?} is named elsewhere");
        }
    }
    same
}

fn chain(stream: &str, text: &[u8]) -> Vec<Link> {
    sealed(stream, &text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>())
}

fn sealed(stream: &str, bodies: &[Vec<u8>]) -> Vec<Link> {
    let mut prev = genesis(stream);
    let link = |(seq, body): (u64, &Vec<u8>)| {
        let hash = seal(&prev, seq, body);
        let link = Link { seq, prev: prev.to_vec(), hash: hash.to_vec(), body: body.clone() };
        prev = hash;
        link
    };
    (1..).zip(bodies).map(link).collect()
}

fn verify(stream: &str, links: &[Link]) -> Result<(u64, Hash), (usize, FaultKind)> {
    let mut verifier = Verifier::from_start(stream);
    for (place, link) in links.iter().enumerate() {
        verifier.check(link.seq, &link.prev, &link.hash, &link.body).map_err(|fault| (place, fault.kind))?;
    }
    Ok((verifier.last_seq(), verifier.head()))
}
