//! libFuzzer's way to the target `arguments`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callgate_fuzz::run("arguments", data));
