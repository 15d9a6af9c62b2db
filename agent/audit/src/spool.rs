//! The spool: a hash chain in segment files, bounded, recovered after any crash.
//!
//! `format` says what the files look like and `scan` reads them; `disk` and `current` touch the one that is written
//! to; `writer` seals and appends, under the lock that is in `shared`; `commit` is the thread that brings records to
//! disk and frees what is acknowledged; `state` is the small file that remembers across restarts; `recover` opens;
//! `reader` gives records to the uplink; `segment` reads a single file for whoever examines one.

pub(crate) mod commit;
mod current;
pub(crate) mod disk;
pub(crate) mod format;
mod reader;
pub(crate) mod recover;
pub(crate) mod scan;
mod segment;
pub(crate) mod shared;
pub(crate) mod state;
pub(crate) mod writer;

pub use reader::SpoolReader;
pub use recover::Recovery;
pub use segment::{Segment, SegmentEntry, read_segment};
