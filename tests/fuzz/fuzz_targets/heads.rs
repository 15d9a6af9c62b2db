//! libFuzzer's way to the target `heads`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callgate_fuzz::run("heads", data));
