//! Any bytes as a Dockerfile.

#![no_main]

use fanfold::dockerfile::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &[u8]| {
    if let Err(fault) = properties::dockerfile(source) {
        panic!("{fault}");
    }
});
