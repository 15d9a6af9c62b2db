//! The scanner by example; splits, arbitrary bytes and hyper's view are in `tests/heads`.

use super::*;

const PLAIN: HeadRules = HeadRules { tls: false, default_port: 80 };

struct Run {
    scanner: HeadScanner,
    out: Vec<u8>,
    heads: Vec<Head>,
}

impl Run {
    fn new() -> Self {
        Self { scanner: HeadScanner::new(PLAIN), out: Vec::new(), heads: Vec::new() }
    }

    fn push(&mut self, input: &[u8]) -> Result<(), HeadError> {
        self.scanner.push(input, &mut self.out, &mut self.heads)
    }
}

#[test]
fn holds_a_head_until_it_is_complete() {
    let mut run = Run::new();
    run.push(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap();
    assert!(run.out.is_empty() && !run.scanner.is_idle());
    assert_eq!(run.scanner.finish(), Err(HeadError::Truncated));
    run.push(b"\r\n").unwrap();
    assert_eq!((run.out.len(), run.heads.len(), run.scanner.is_idle()), (27, 1, true));
    assert_eq!(run.scanner.finish(), Ok(()));
}

#[test]
fn passes_bodies_and_finds_the_next_head() {
    let stream = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\n\r\
                   POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=1\r\nGET \n\r\n0\r\nX-Sum: 1\r\n\r\n\
                   \r\nGET /c HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut run = Run::new();
    run.push(stream).unwrap();
    assert_eq!(run.out, stream);
    assert_eq!(run.heads.iter().map(|h| h.path.as_str()).collect::<Vec<_>>(), ["/a", "/b", "/c"]);
}

#[test]
fn nothing_passes_after_an_error() {
    let mut run = Run::new();
    let error = run.push(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(error, Err(HeadError::HostRepeated));
    assert_eq!(run.push(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Err(HeadError::HostRepeated));
    assert_eq!(run.scanner.finish(), Err(HeadError::HostRepeated));
    assert!(run.out.is_empty() && run.heads.is_empty());
}

#[test]
fn drops_what_follows_the_last_request() {
    let mut run = Run::new();
    run.push(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(run.heads.len(), 1);
    assert_eq!(run.out.len(), run.heads[0].length);
}

#[test]
fn withdraws_a_message_whose_body_breaks_in_the_same_push() {
    let first = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let second = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n";
    let mut run = Run::new();
    assert_eq!(run.push(&[&first[..], second, b"zz\r\n"].concat()), Err(HeadError::ChunkSize));
    assert_eq!((run.out.len(), run.heads.len()), (first.len() + second.len(), 2));
    assert!(run.scanner.withdraw(&mut run.out, &mut run.heads));
    assert_eq!((&run.out[..], run.heads.len()), (&first[..], 1));
    assert!(!run.scanner.withdraw(&mut run.out, &mut run.heads));

    let mut run = Run::new();
    run.push(second).unwrap();
    assert_eq!(run.push(b"zz\r\n"), Err(HeadError::ChunkSize));
    assert!(!run.scanner.withdraw(&mut run.out, &mut run.heads));
}

#[test]
fn an_upgrade_holds_what_follows_until_it_is_answered() {
    let ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut run = Run::new();
    run.push(&[&ask[..], b"\x81\x00"].concat()).unwrap();
    assert!(run.scanner.awaits_upgrade());
    assert_eq!(run.out, ask);
    assert!(run.scanner.accept_upgrade(&mut run.out));
    run.push(b"\x82\n").unwrap();
    assert_eq!(run.out, [&ask[..], b"\x81\x00\x82\n"].concat());
    assert_eq!(run.scanner.pass(b"abc"), 3);
    assert!(!run.scanner.accept_upgrade(&mut run.out));

    let mut run = Run::new();
    run.push(ask).unwrap();
    run.push(b"GET /b HTTP/1.1\nHost: a\n\n").unwrap();
    assert_eq!(run.scanner.refuse_upgrade(&mut run.out, &mut run.heads), Err(HeadError::BareLf));
    assert_eq!(run.out, ask);

    let mut run = Run::new();
    run.push(ask).unwrap();
    assert_eq!(run.push(&vec![0; UPGRADE_HELD_MAX + 1]), Err(HeadError::EarlyBytes));
}

#[test]
fn body_data_can_bypass_the_buffer() {
    let mut run = Run::new();
    assert_eq!(run.scanner.pass(b"GET"), 0);
    run.push(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    assert_eq!(run.scanner.pass(b"defg"), 4);
    assert_eq!(run.scanner.pass(b"hijGET"), 3);
    assert_eq!(run.scanner.pass(b"GET"), 0);
    assert!(run.scanner.is_idle());
}

#[test]
fn heads_are_bounded() {
    let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    let fits = format!("{start}{}\r\n\r\n", "x".repeat(HEAD_MAX - start.len() - 4));
    assert_eq!(fits.len(), HEAD_MAX);
    let mut run = Run::new();
    run.push(fits.as_bytes()).unwrap();
    assert_eq!(run.heads.len(), 1);
    let mut run = Run::new();
    for _ in 0..10_000 {
        if run.push(b"GET / HTTP/1.1 never ends ").is_err() {
            break;
        }
        assert!(run.scanner.held.len() <= HEAD_MAX);
    }
    assert_eq!(run.scanner.finish(), Err(HeadError::HeadTooLarge));
    assert_eq!(run.scanner.held.capacity(), 0);
}
