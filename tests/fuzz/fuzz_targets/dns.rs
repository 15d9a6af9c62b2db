//! libFuzzer's way to the target `dns`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callgate_fuzz::run("dns", data));
