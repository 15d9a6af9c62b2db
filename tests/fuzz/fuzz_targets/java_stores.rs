//! libFuzzer's way to the target `java_stores`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callgate_fuzz::run("java_stores", data));
