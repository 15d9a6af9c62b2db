//! libFuzzer's way to the target `json_places`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| callgate_fuzz::run("json_places", data));
