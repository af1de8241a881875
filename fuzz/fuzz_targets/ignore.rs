//! Any bytes as a `.dockerignore` file and, behind a NUL, a path.

#![no_main]

use fanfold::dockerfile::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Err(fault) = properties::ignore(data) {
        panic!("{fault}");
    }
});
