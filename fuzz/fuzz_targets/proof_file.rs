#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pouch_fuzz::proof_file::run(bytes));
