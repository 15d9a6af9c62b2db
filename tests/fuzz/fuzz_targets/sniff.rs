//! libFuzzer's way to the target `sniff`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callgate_fuzz::run("sniff", data));
