//! libFuzzer's way to the target `paths`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callgate_fuzz::run("paths", data));
