use super::*;

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn pieces(cutter: &mut Cutter, payload: &[u8]) -> Vec<Vec<u8>> {
    let cut = cutter.cut(payload.len()).unwrap();
    let piece = |index| {
        let (header, range) = cut.piece(index);
        [&header[..], &payload[range]].concat()
    };
    (0..cut.count()).map(piece).collect()
}

fn take(joiner: &mut Joiner, piece: &[u8], now: u64) -> Option<Vec<u8>> {
    let mut buf = piece.to_vec();
    (joiner.take(&mut buf, now)? == Joined::Payload).then_some(buf)
}

#[test]
fn what_fits_is_sent_whole_behind_a_header_of_zeros() {
    let mut cutter = Cutter::new(100);
    assert_eq!(pieces(&mut cutter, b"abc"), [b"\0\0\0\0abc"]);
    assert_eq!(pieces(&mut cutter, &payload(100)).len(), 1);
    assert_eq!(take(&mut Joiner::default(), b"\0\0\0\0abc", 0).unwrap(), b"abc");
}

#[test]
fn pieces_have_the_bits_that_stock_peers_read() {
    let mut cutter = Cutter::new(1000);
    cutter.sequence = 0x5A;
    let pieces = pieces(&mut cutter, &payload(1500));
    // 1500 bytes are two pieces of 752 and 748; sequence number 5B.
    let header = |number: usize| u32::from_be_bytes(*pieces[number].first_chunk().unwrap());
    assert_eq!(header(0), 1 | 0x5B << 2);
    assert_eq!(header(1), 2 | 0x5B << 2 | 1 << 10 | (752 / 4) << 15);
    assert_eq!(pieces.iter().map(|piece| piece.len() - 4).collect::<Vec<_>>(), [752, 748]);
}

#[test]
fn payloads_come_back_in_any_order_of_their_pieces() {
    let mut cutter = Cutter::new(90);
    let mut joiner = Joiner::default();
    for len in [89, 90, 91, 352, 353, 1400, 2816] {
        for reverse in [false, true] {
            let payload = payload(len);
            let mut pieces = pieces(&mut cutter, &payload);
            assert!(pieces.iter().all(|piece| piece.len() <= 94), "{len}");
            if reverse {
                pieces.reverse();
            }
            let whole: Vec<_> = pieces.iter().filter_map(|piece| take(&mut joiner, piece, 0)).collect();
            assert_eq!(whole, [payload], "{len}");
        }
    }
    assert!(joiner.open.is_empty());
    assert!(cutter.cut(32 * 88 + 1).is_none(), "33 pieces");
}

#[test]
fn pieces_of_several_payloads_may_mix() {
    let (mut cutter, mut joiner) = (Cutter::new(500), Joiner::default());
    let (one, two) = (pieces(&mut cutter, &payload(900)), pieces(&mut cutter, &payload(800)));
    assert_eq!(take(&mut joiner, &one[0], 0), None);
    assert_eq!(take(&mut joiner, &two[1], 0), None);
    assert_eq!(take(&mut joiner, &one[0], 0), None, "a piece may come twice");
    assert_eq!(take(&mut joiner, &one[1], 0).unwrap(), payload(900));
    assert_eq!(take(&mut joiner, &two[0], 0).unwrap(), payload(800));
}

#[test]
fn pieces_are_forgotten_by_time_number_and_size() {
    let first = |sequence: u32, len: usize| [&(1 | sequence << 2).to_be_bytes()[..], &payload(len)].concat();
    let last = |sequence: u32, size: u32| {
        let header = 2 | sequence << 2 | 1 << 10 | (size / 4) << 15;
        [&header.to_be_bytes()[..], b"end"].concat()
    };
    let mut joiner = Joiner::default();
    assert_eq!(take(&mut joiner, &first(1, 8), 0), None);
    assert_eq!(take(&mut joiner, &last(1, 8), LIFETIME), None, "too late");
    assert!(take(&mut joiner, &first(1, 8), LIFETIME).is_some(), "though the last piece is there now");

    let mut joiner = Joiner::default();
    (0..26).for_each(|number| assert_eq!(take(&mut joiner, &first(number, 8), u64::from(number)), None));
    assert_eq!(joiner.open.len(), usize::from(MAX_OPEN));
    assert!(take(&mut joiner, &last(25, 8), 26).is_some());
    assert_eq!(take(&mut joiner, &last(0, 8), 27), None, "the oldest is gone");

    let mut joiner = Joiner::default();
    (0..20).for_each(|number| assert_eq!(take(&mut joiner, &first(number, 60_000), u64::from(number)), None));
    assert!(joiner.open.iter().map(|partial| partial.bytes.len()).sum::<usize>() <= MAX_HELD);
}

/// The scenario that mixes payloads where only time forgets: sequence numbers come again after 256 payloads.
#[test]
fn a_lost_piece_costs_its_payload_and_no_other() {
    for lost in [0, 1] {
        let (mut cutter, mut joiner) = (Cutter::new(500), Joiner::default());
        for number in 0..600_u32 {
            let payload = [&number.to_be_bytes()[..], &payload(900), &number.to_be_bytes()].concat();
            let mut pieces = pieces(&mut cutter, &payload);
            if number == 0 {
                pieces.remove(lost);
            }
            // The very number of the payload with the loss comes in the other order.
            if number == 256 && lost == 1 {
                pieces.reverse();
            }
            let whole: Vec<_> = pieces.iter().filter_map(|piece| take(&mut joiner, piece, 0)).collect();
            assert_eq!(whole.len(), usize::from(number > 0), "{number}");
            assert!(whole.iter().all(|whole| *whole == payload), "{number} is mixed");
        }
        assert!(joiner.open.is_empty(), "what lacked a piece is forgotten");
    }
}

#[test]
fn pieces_may_be_late_by_as_many_payloads_as_stock_peers_look_back() {
    let first = |sequence: u32| [&(1 | sequence << 2).to_be_bytes()[..], &payload(8)].concat();
    let last = |sequence: u32| [&(2 | sequence << 2 | 1 << 10 | 2 << 15).to_be_bytes()[..], b"end"].concat();
    for (start, later, completes) in [(3, 27, true), (3, 28, false), (250, 18, true), (250, 19, false)] {
        let mut joiner = Joiner::default();
        assert_eq!(take(&mut joiner, &first(start), 0), None);
        assert_eq!(take(&mut joiner, &first(later), 0), None);
        assert_eq!(take(&mut joiner, &last(start), 0).is_some(), completes, "{start} {later}");
        assert_eq!(take(&mut joiner, &last(later), 0).is_some(), completes, "as stock, it jumped back");
    }
    // Step by step, not in a jump.
    let mut joiner = Joiner::default();
    (0..26).for_each(|number| assert_eq!(take(&mut joiner, &first(number), 0), None));
    assert!(take(&mut joiner, &last(1), 0).is_some());
    assert_eq!(joiner.open.len(), 24, "all but the first, and the one that is whole");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let header = |bits: u32, rest: &[u8]| [&bits.to_be_bytes()[..], rest].concat();
    let mut joiner = Joiner::default();
    for wrong in [
        vec![],
        vec![0; 3],
        header(3, b"12345678"),           // no such kind
        header(1 << 2, b"12345678"),      // whole, with a sequence number
        header(1, b"123456"),             // not a multiple of 4
        header(1, b""),                   // nothing in it
        header(2 | 1 << 10, b"1234"),     // last, size 0
        header(2 | 1 << 15, b"123456"),   // longer than the others
        header(1 | 31 << 10, &[0; 4000]), // behind the largest payload
    ] {
        let mut buf = wrong.clone();
        assert_eq!(joiner.take(&mut buf, 0), None, "{wrong:?}");
    }
    assert!(joiner.open.is_empty());
}
