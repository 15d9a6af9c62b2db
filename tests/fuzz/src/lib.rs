//! Fuzz targets for everything that reads bytes which others chose.
//!
//! [`TARGETS`] is the table: one row and one file in `targets/` each. A target does not only wait for a panic: it
//! compares what the reader says with another reading of the same bytes, and with itself when the bytes come in pieces.
//! `corpus/NAME/` holds its seeds, and every input that once found something.
//!
//! Three ways to run them:
//! - `cargo test -p callgate-fuzz`: each seed, and mutations of it that are the same in every run. No nightly needed.
//! - `cargo +nightly fuzz run --fuzz-dir tests/fuzz --features libfuzzer NAME`: guided by coverage, without end; wants
//!   cargo-fuzz.
//! - Without cargo-fuzz, any toolchain does (a C++ compiler is needed):
//!   `RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
//!   -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
//!   -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions"
//!   cargo build --release -p callgate-fuzz --features libfuzzer --bins --target x86_64-unknown-linux-gnu`,
//!   then `NAME -max_total_time=60 FOUND tests/fuzz/corpus/NAME`.
//!
//! Seeds are made from the corpora and samples of the crates (`seeds.rs`); `CALLGATE_WRITE=1 cargo test -p callgate-fuzz`
//! writes them anew, and leaves files of other names alone.

pub mod mutate;
pub mod pieces;
pub mod seeds;
mod spool;
mod targets;

pub use targets::{TARGETS, Target};

/// Runs the target called `name`: what the entry points of libFuzzer call.
///
/// # Panics
/// If there is no such target, or it found something.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("no target `{name}`")).run)(data);
}
