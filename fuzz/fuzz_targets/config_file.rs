#![no_main]
#[path = "../../tests/formats/parsers/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::run("config_file", data));
