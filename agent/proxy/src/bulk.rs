//! Moves bulk through TLS in large pieces, though rustls asks its socket for no more than a record (at first for 4 KiB)
//! and gives one record at a time, 16 KiB.
//!
//! [`Ahead`] stands below a TLS stream and [`Gathered`] above it. Small messages pass both as they are: nothing is read
//! ahead of them, nothing is kept for them, and nothing ever waits for more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::through::{flushes_through, shuts_through, writes_through};

/// Most bytes that are read ahead. Unit: bytes. Source: the buffer of a relay; four records.
const AHEAD: usize = 64 << 10;

/// What is gathered before it is given. Unit: bytes.
/// Source: three records, which masked and framed still fit into what rustls takes at once, 64 KiB.
const GATHERED: usize = 48 << 10;

/// A read that gives less is the end of a message: no more is asked for. Unit: bytes. Source: ours; a quarter of a record.
const SMALL: usize = 4 << 10;

/// A socket of which more is read than was asked for, once a read has shown that more waits.
#[derive(Debug)]
pub(crate) struct Ahead<S> {
    stream: S,
    /// Read and not asked for yet.
    ahead: BytesMut,
    /// Whether the last read filled all the room that it had.
    more: bool,
}

impl<S> Ahead<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, ahead: BytesMut::new(), more: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() && !this.more {
            let read = Pin::new(&mut this.stream).poll_read(cx, buf);
            if read.is_pending() {
                // An idle connection keeps no buffer.
                this.ahead = BytesMut::new();
            }
            this.more = read.is_ready() && buf.remaining() == 0;
            return read;
        }
        if this.ahead.is_empty() {
            this.ahead.reserve(AHEAD);
            let room = this.ahead.capacity();
            let read = poll_read_buf(Pin::new(&mut this.stream), cx, &mut this.ahead);
            this.more = matches!(read, Poll::Ready(Ok(read)) if read == room);
            if read.is_pending() {
                this.ahead = BytesMut::new();
            }
            ready!(read)?;
        }
        let given = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..given]);
        this.ahead.advance(given);
        Poll::Ready(Ok(()))
    }
}

/// A TLS stream that gives several records at once where they are there.
#[derive(Debug)]
pub(crate) struct Gathered<S> {
    stream: S,
    /// Told with the next read: what came before it was given first.
    failed: Option<io::Error>,
}

impl<S> Gathered<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, failed: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(error) = this.failed.take() {
            return Poll::Ready(Err(error));
        }
        let start = buf.filled().len();
        loop {
            let before = buf.filled().len();
            match Pin::new(&mut this.stream).poll_read(cx, buf) {
                Poll::Ready(Ok(())) => {
                    let filled = buf.filled().len();
                    if filled - before < SMALL || filled - start >= GATHERED || buf.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Err(error)) if before > start => {
                    this.failed = Some(error);
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending if before > start => return Poll::Ready(Ok(())),
                other => return other,
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    writes_through!();
    flushes_through!();
    shuts_through!();
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    writes_through!();
    flushes_through!();
    shuts_through!();
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Gives each piece by one read, as far as there is room, then what `end` says; notes how much it was asked for.
    struct Pieces {
        pieces: VecDeque<Vec<u8>>,
        end: Option<io::ErrorKind>,
        asked: Vec<usize>,
    }

    impl Pieces {
        fn of(lengths: &[usize], end: Option<io::ErrorKind>) -> Self {
            let piece = |(number, length): (usize, &usize)| vec![number as u8; *length];
            Self { pieces: lengths.iter().enumerate().map(piece).collect(), end, asked: Vec::new() }
        }
    }

    impl AsyncRead for Pieces {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.asked.push(buf.remaining());
            match (self.pieces.pop_front(), self.end) {
                (Some(mut piece), _) => {
                    let rest = piece.split_off(piece.len().min(buf.remaining()));
                    buf.put_slice(&piece);
                    if !rest.is_empty() {
                        self.pieces.push_front(rest);
                    }
                    Poll::Ready(Ok(()))
                }
                (None, Some(kind)) => Poll::Ready(Err(kind.into())),
                (None, None) => Poll::Ready(Ok(())),
            }
        }
    }

    #[tokio::test]
    async fn more_is_read_ahead_only_where_more_waits() {
        let mut ahead = Ahead::new(Pieces::of(&[1000, 4096, 100_000, 10], None));
        let (mut all, mut small) = (Vec::new(), [0; 4096]);
        loop {
            let read = ahead.read(&mut small).await.unwrap();
            if read == 0 {
                break;
            }
            all.extend_from_slice(&small[..read]);
        }
        let expected: Vec<u8> = Pieces::of(&[1000, 4096, 100_000, 10], None).pieces.into_iter().flatten().collect();
        assert!(all == expected);
        assert_eq!(ahead.stream.asked[..2], [4096, 4096]);
        assert!(ahead.stream.asked[2] >= AHEAD && ahead.stream.asked.len() <= 6, "{:?}", ahead.stream.asked);
    }

    #[tokio::test]
    async fn an_idle_connection_keeps_no_buffer() {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let mut ahead = Ahead::new(far);
        for length in [200_000, AHEAD + 4096, 4096, 10] {
            near.write_all(&vec![1; length]).await.unwrap();
            let (mut small, mut read) = ([0; 4096], 0);
            while read < length {
                read += ahead.read(&mut small).await.unwrap();
            }
            let mut waits = |cx: &mut Context<'_>| Pin::new(&mut ahead).poll_read(cx, &mut ReadBuf::new(&mut small));
            assert!(std::future::poll_fn(|cx| Poll::Ready(waits(cx).is_pending())).await);
            assert_eq!(ahead.ahead.capacity(), 0, "{length}");
        }
    }

    #[tokio::test]
    async fn records_are_gathered_and_an_error_comes_after_them() {
        let record = 16 << 10;
        let broken = Some(io::ErrorKind::ConnectionReset);
        let mut gathered = Gathered::new(Pieces::of(&[record, record, record, record, record, 100, 200], broken));
        let mut buf = vec![0; 128 << 10];
        let mut reads = Vec::new();
        let error = loop {
            match gathered.read(&mut buf).await {
                Ok(read) => reads.push(read),
                Err(error) => break error,
            }
        };
        assert_eq!(reads, [3 * record, 2 * record + 100, 200]);
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

        let mut gathered = Gathered::new(Pieces::of(&[record], broken));
        assert_eq!(gathered.read(&mut buf).await.unwrap(), record);
        assert!(gathered.read(&mut buf).await.is_err(), "a connection that broke is not one that ended");
    }
}
