//! libFuzzer's way to the target `mount_tables`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callgate_fuzz::run("mount_tables", data));
