//! libFuzzer's way to the target `masker`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callgate_fuzz::run("masker", data));
