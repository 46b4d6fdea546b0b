//! Frames by hand, and numbers that cannot be.

use bytes::BytesMut;

use super::*;
use crate::error::opening::Opening;
use crate::error::unsendable::Unframeable;
use crate::error::violation::Violation;

mod shapes;

const HELLO: &[u8] = b"hello";
const MEMCACHED: Framing = Framing::u32_be().offset(8).counts_from(24).keep_header();

/// `GET hello`, as memcached gets it.
const GET: &[u8] = b"\x80\0\0\x05\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0hello";

fn encode(framing: Framing, frame: &[u8]) -> Result<Vec<u8>, Unframeable> {
    let (head, rest) = frame.split_at(framing.head().min(frame.len()));
    let mut out = BytesMut::from("before");
    framing.begin(&mut out);
    out.extend_from_slice(head);
    let framed = framing.end(6, rest.len(), &mut out);
    assert!(framed.is_ok() || out == "before", "{out:?}");
    framed.map(|()| [&out[6..], rest].concat())
}

/// All frames of the bytes, which come in pieces of the lengths `cuts`, over and over.
fn decode(
    mut next: impl FnMut(&mut BytesMut) -> Option<Vec<u8>>,
    mut bytes: &[u8],
    cuts: &[usize],
) -> Vec<Vec<u8>> {
    let (mut input, mut frames, mut cuts) = (BytesMut::new(), Vec::new(), cuts.iter().cycle());
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(bytes.len().min(*cuts.next().unwrap()));
        bytes = rest;
        input.extend_from_slice(piece);
        while let Some(frame) = next(&mut input) {
            frames.push(frame);
        }
    }
    assert!(input.is_empty(), "{input:?} is left");
    frames
}

#[test]
fn the_drawings_of_the_documents_are_true() {
    let magic = Framing::u16_be().magic(b"\xab\xcd");
    for (framing, frame, wire) in [
        (Framing::u8(), HELLO, &b"\x05hello"[..]),
        (Framing::u16_be(), HELLO, b"\0\x05hello"),
        (Framing::u16_le(), HELLO, b"\x05\0hello"),
        (Framing::u24_be(), HELLO, b"\0\0\x05hello"),
        (Framing::u24_le(), HELLO, b"\x05\0\0hello"),
        (Framing::u32_be(), HELLO, b"\0\0\0\x05hello"),
        (Framing::u32_le(), HELLO, b"\x05\0\0\0hello"),
        (Framing::u64_be(), HELLO, b"\0\0\0\0\0\0\0\x05hello"),
        (Framing::u64_le(), HELLO, b"\x05\0\0\0\0\0\0\0hello"),
        (magic, HELLO, b"\xab\xcd\0\x05hello"),
        (Framing::u32_be().counts_itself(), HELLO, b"\0\0\0\x09hello"),
        (magic.counts_itself(), HELLO, b"\xab\xcd\0\x07hello"),
        (magic.counts_everything(), HELLO, b"\xab\xcd\0\x09hello"),
        (MEMCACHED, GET, GET),
        // A type behind the length field that it does not count.
        (Framing::u16_be().counts_from(3), b"Thello", b"\0\x05Thello"),
        // A type and a flag before it, the user's like the rest.
        (magic.offset(4).keep_header(), b"??TF??hello", b"\xab\xcdTF\0\x05hello"),
        (Framing::u16_le(), b"", b"\0\0"),
    ] {
        assert_eq!(framing.check(), Ok(()), "{framing:?}");
        assert_eq!(encode(framing, frame).unwrap(), wire, "{framing:?}");
        let seen = if framing.stripped() == 0 { wire } else { frame };
        let next = |input: &mut BytesMut| framing.next(input).unwrap().map(Vec::from);
        assert_eq!(decode(next, wire, &[1]), [seen], "{framing:?}");
    }
}

#[test]
fn numbers_that_cannot_be_are_violations_with_the_numbers_and_reserve_nothing() {
    let refuses = |framing: Framing, came: &[u8], violation| {
        let mut input = BytesMut::from(came);
        let capacity = input.capacity();
        assert_eq!(framing.next(&mut input), Err(violation), "{framing:?}");
        assert_eq!((input.capacity(), &input[..]), (capacity, came));
    };
    let default = 16 << 20;
    for (framing, came, length, limit) in [
        (Framing::u32_be(), &b"\xff\xff\xff\xff"[..], 0xffff_ffff, default),
        (Framing::u32_le(), b"\x01\0\0\x01", default + 1, default),
        (Framing::u64_be(), &[0xff; 8], u64::MAX - 8, default),
        (Framing::u64_be().counts_everything(), &[0xff; 8], u64::MAX - 8, default),
        (Framing::u64_le().keep_header(), &[0xff; 8], u64::MAX, default),
        (Framing::u8().limit(5), b"\x06", 6, 5),
        (Framing::u8().limit(5).keep_header(), b"\x05", 6, 5),
    ] {
        let opening = Opening::of(came);
        refuses(framing, came, Violation::FrameTooLong { length, limit, came: opening });
    }
    for (framing, came, length, header) in [
        (Framing::u32_be().counts_itself(), &b"\0\0\0\x03"[..], 3, 4),
        (Framing::u16_be().magic(b"AB").counts_itself(), b"AB\0\x01", 3, 4),
        (Framing::u16_be().offset(2).keep_header().counts_everything(), b"AB\0\0", 0, 4),
    ] {
        refuses(framing, came, Violation::FrameTooShort { length, header });
    }
}

#[test]
fn a_frame_of_the_limit_passes_both_ways_and_one_more_byte_neither() {
    for (framing, longest) in [
        (Framing::u16_be().limit(1000), 1000),
        (Framing::u16_be().limit(1000).keep_header(), 1000),
        (Framing::u8(), 255),
        (Framing::u8().counts_itself(), 254),
        (Framing::u8().magic(b"ABCD").counts_everything(), 250),
        (Framing::u8().counts_from(3), 257),
        (Framing::u8().keep_header(), 256),
        (Framing::u16_le().limit(1 << 31), 65_535),
    ] {
        let wire = encode(framing, &vec![7; longest]).unwrap();
        let frame = framing.next(&mut BytesMut::from(&wire[..])).unwrap().unwrap();
        assert_eq!(frame.len(), longest, "{framing:?}");
        let (length, limit) = (longest as u64 + 1, longest as u64);
        let error = encode(framing, &vec![7; longest + 1]);
        assert_eq!(error, Err(Unframeable::TooLong { length, limit }), "{framing:?}");
    }
}

#[test]
fn a_frame_must_have_the_header_that_its_user_writes() {
    for (framing, given, header) in [
        (MEMCACHED, 23, 24),
        (MEMCACHED, 3, 24),
        (Framing::u32_be().keep_header(), 0, 4),
        (Framing::u16_be().counts_from(6), 3, 4),
    ] {
        let length = given as u64;
        let error = encode(framing, &vec![7; given]);
        assert_eq!(error, Err(Unframeable::TooShort { length, header }), "{framing:?}");
        assert!(encode(framing, &vec![7; header as usize]).is_ok(), "{framing:?}");
    }
}

#[test]
fn a_wrong_magic_is_found_out_at_its_first_byte_and_shown() {
    let framing = Framing::u32_be().magic(b"\xab\xcd");
    for came in [&b"H"[..], b"\xabH", b"HTTP/1.1 400 Bad Request\r\n"] {
        let violation = framing.next(&mut BytesMut::from(came)).unwrap_err();
        assert_eq!(
            violation,
            Violation::WrongMagic { magic: b"\xab\xcd", came: Opening::of(came) }
        );
    }
    assert_eq!(framing.next(&mut BytesMut::from(&b"\xab"[..])), Ok(None));
}

#[test]
fn the_texts_have_the_numbers() {
    let came = Opening::of(b"\0\x05he");
    for (violation, text) in [
        (
            Violation::FrameTooShort { length: 3, header: 4 },
            "frame of 3 bytes is shorter than its header of 4",
        ),
        (
            Violation::WrongMagic { magic: b"\xab\"", came },
            r#"frame begins with "\x00\x05he", not with "\xab\"""#,
        ),
    ] {
        assert_eq!(violation.to_string(), text);
    }
    assert_eq!(
        Unframeable::TooLong { length: 300, limit: 255 }.to_string(),
        "frame of 300 bytes exceeds the limit of 255"
    );
    assert_eq!(
        Framing::u8().offset(3).magic(b"A").check().unwrap_err().to_string(),
        "only 1 of the 3 bytes before the length field are known: give all as magic, or keep_header"
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_its_range() {
    let number = |name, value, min, max| Err(ConfigError::Number { name, value, min, max });
    let kept = Framing::u8().keep_header();
    for (framing, expected) in [
        (Framing::new(0, ByteOrder::Big), number("framing width", 0, 1, 8)),
        (Framing::new(9, ByteOrder::Little), number("framing width", 9, 1, 8)),
        (Framing::new(usize::MAX, ByteOrder::Big), number("framing width", u64::MAX, 1, 8)),
        (Framing::u8().magic(&[0; 16]), Ok(())),
        (Framing::u8().magic(&[0; 17]), number("framing magic", 17, 0, 16)),
        (Framing::u8().offset(1).magic(b"AB"), number("framing offset", 1, 2, 65_536)),
        (kept.offset(65_537), number("framing offset", 65_537, 0, 65_536)),
        (Framing::u64_be().offset(65_536).keep_header(), Ok(())),
        (Framing::u8().offset(1), Err(ConfigError::UnknownHeader { offset: 1, known: 0 })),
        (kept.counts_from(65_536), Ok(())),
        (kept.counts_from(65_537), number("framing counts_from", 65_537, 0, 65_536)),
        (kept.counts_from(usize::MAX), number("framing counts_from", u64::MAX, 0, 65_536)),
        // It could not say how long its own header is.
        (kept.offset(255).counts_everything(), number("framing counts_from", 0, 1, 65_536)),
        (kept.offset(254).counts_everything(), Ok(())),
        (Framing::u8().limit(0), number("framing limit", 0, 1, 1 << 31)),
        (Framing::u8().limit((1 << 31) + 1), number("framing limit", (1 << 31) + 1, 1, 1 << 31)),
        (Framing::u8().limit(1 << 31), Ok(())),
        (MEMCACHED.limit(23), number("framing limit", 23, 24, 1 << 31)),
        (Framing::u8().counts_from(4).limit(2), number("framing limit", 2, 3, 1 << 31)),
    ] {
        assert_eq!(framing.check(), expected, "{framing:?}");
    }
}
