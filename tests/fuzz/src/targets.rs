//! The table of targets: one row each, one file each.

mod arguments;
mod authority;
mod dns;
mod frames;
mod heads;
mod java_stores;
mod json_places;
mod jwt;
mod masker;
mod mount_tables;
mod paths;
mod pem_bundles;
mod records;
mod recovery;
mod seals;
mod segments;
mod sniff;
mod urls;

use crate::seeds::{self, Seed};

/// One reader of bytes that others chose.
#[derive(Debug)]
pub struct Target {
    /// The folder of its corpus, and its entry point.
    pub name: &'static str,
    /// Feeds it, and says whether it took the bytes for good; panics when it broke a promise.
    pub run: fn(&[u8]) -> bool,
    /// The seeds that its corpus begins with.
    pub seeds: fn() -> Vec<Seed>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "arguments", run: arguments::run, seeds: seeds::arguments },
    Target { name: "authority", run: authority::run, seeds: seeds::authorities },
    Target { name: "dns", run: dns::run, seeds: seeds::messages },
    Target { name: "frames", run: frames::run, seeds: seeds::frames },
    Target { name: "heads", run: heads::run, seeds: seeds::heads },
    Target { name: "java_stores", run: java_stores::run, seeds: seeds::java_stores },
    Target { name: "json_places", run: json_places::run, seeds: seeds::documents },
    Target { name: "jwt", run: jwt::run, seeds: seeds::tokens },
    Target { name: "masker", run: masker::run, seeds: seeds::texts },
    Target { name: "mount_tables", run: mount_tables::run, seeds: seeds::mount_tables },
    Target { name: "paths", run: paths::run, seeds: seeds::paths },
    Target { name: "pem_bundles", run: pem_bundles::run, seeds: seeds::pem_bundles },
    Target { name: "records", run: records::run, seeds: seeds::records },
    Target { name: "recovery", run: recovery::run, seeds: seeds::spools },
    Target { name: "seals", run: seals::run, seeds: seeds::chains },
    Target { name: "segments", run: segments::run, seeds: seeds::spools },
    Target { name: "sniff", run: sniff::run, seeds: seeds::openings },
    Target { name: "urls", run: urls::run, seeds: seeds::urls },
];
