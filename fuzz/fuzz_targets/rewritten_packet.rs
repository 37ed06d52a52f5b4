#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| culvert_decoders::run("rewritten_packet", bytes));
