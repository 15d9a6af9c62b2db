//! libFuzzer's way to the target `pem_bundles`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callgate_fuzz::run("pem_bundles", data));
