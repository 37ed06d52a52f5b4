use super::*;

/// Plaintext of each row; what liblzo2's `lzo1x_1_15` and `lzo1x_999` (the thoroughest) make of it, hexadecimal.
fn vectors() -> Vec<(Vec<u8>, [&'static str; 2])> {
    let ip = [0x45, 0, 0, 0x54, 0, 0, 0x40, 0, 0x40, 1, 0x7A, 0xC1, 10, 8, 0, 2, 10, 8, 0, 1];
    let request = b"GET /index.html HTTP/1.1\r\nHost: www.example.org\r\n";
    let zeros = [vec![0; 1480], b"end".repeat(7)].concat();
    vec![
        (b"a".to_vec(), ["1261110000", "1261110000"]),
        (b"abc".to_vec(), ["14616263110000", "14616263110000"]),
        (b"abcdefghijkl".to_vec(), ["1d6162636465666768696a6b6c110000", "1d6162636465666768696a6b6c110000"]),
        (
            vec![b'a'; 1500],
            [
                "026161616161200000000000a81000000161616161616161616161616161616161616161110000",
                "1261200000000000bf0000110000",
            ],
        ),
        (
            b"the quick brown fox ".repeat(70),
            [
                "000274686520717569636b2062726f776e20666f7820200000000000384c000d717569636b2062726f776e20666f7820110000",
                "2574686520717569636b2062726f776e20666f7820200000000000484c00110000",
            ],
        ),
        (
            ip.into_iter().chain(0..64).collect(),
            [
                "65450000540000400040017ac10a0800020a080001000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f110000",
                "21450000540000400040017ac10a0800024d00010400002c02030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f110000",
            ],
        ),
        (
            zeros,
            [
                "020000000000200000000000a710000003656e64656e64656e64656e64656e64656e64656e64110000",
                "1200200000000000ab0300656e64300800110000",
            ],
        ),
        (
            request.repeat(3),
            [
                "0024474554202f696e6465782e68746d6c20485454502f312e310d0a486f73743a207777772e6578616d706c652e6f72670d0a474554202f202bc0000e7777772e6578616d706c652e6f72670d0a110000",
                "42474554202f696e6465782e68746d6c20485454502f312e310d0a486f73743a207777772e6578616d706c652e6f72670d0a2041c000110000",
            ],
        ),
    ]
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn plain(input: &[u8], max: usize) -> Option<Vec<u8>> {
    let mut out = vec![0xEE; 3];
    decompress(input, &mut out, max).map(|()| out)
}

#[test]
fn streams_of_the_usual_library_come_apart() {
    for (expected, streams) in vectors() {
        for stream in streams {
            assert_eq!(plain(&bytes(stream), 1600).as_ref(), Some(&expected), "{stream}");
        }
    }
}

#[test]
fn a_stream_that_ends_early_or_late_is_refused() {
    for (expected, streams) in vectors() {
        for stream in streams.map(bytes) {
            for len in 0..stream.len() {
                assert_eq!(plain(&stream[..len], 1600), None, "{len} of {stream:?}");
            }
            assert_eq!(plain(&[&stream[..], &[0]].concat(), 1600), None);
            assert_eq!(plain(&stream, expected.len() - 1), None, "longer than may be");
            assert!(plain(&stream, expected.len()).is_some());
        }
    }
}

#[test]
fn a_match_before_the_beginning_is_refused() {
    for (stream, what) in [
        (&[0x40, 0x00][..], "near, nothing there yet"),
        (&[18, b'a', 0x44, 0x00], "two back, one there"),
        (&[0x20, 0x01, 0, 0], "far"),
        (&[0x18, 0x01, 0, 0], "farther"),
    ] {
        assert_eq!(plain(stream, 1600), None, "{what}");
    }
}

#[test]
fn a_length_without_end_is_refused() {
    let mut stream = vec![18, b'a', 0x20];
    stream.resize(60_000, 0);
    assert_eq!(plain(&stream, 1600), None);
    stream.extend([1, 0, 0, 17, 0, 0]);
    assert_eq!(plain(&stream, 65_535), None, "15 million bytes out of 60 thousand");
}
