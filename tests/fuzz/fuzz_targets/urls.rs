//! libFuzzer's way to the target `urls`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callgate_fuzz::run("urls", data));
