#![no_main]
#[path = "../../tests/formats/parsers/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::run("launchctl_print", data));
