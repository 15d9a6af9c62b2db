//! libFuzzer's way to the target `seals`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callgate_fuzz::run("seals", data));
