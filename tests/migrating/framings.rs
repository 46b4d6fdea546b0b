//! The table of framings: each cuts two messages that came glued together.

use bytes::BytesMut;
use steadfast::Framing;
use tokio_util::codec::Decoder as _;

#[test]
fn each_row_of_the_table_cuts_two_messages_apart() {
    let header = b"\x00\x01\x00\x00";
    let kept = |length: u8| [&header[..], &[0, 0, 0, length], b"hello"].concat();
    let plain = |head: &[u8]| ([head, b"hello"].concat(), b"hello".to_vec());
    let rows = [
        (Framing::u32_le(), plain(b"\x05\0\0\0")),
        (Framing::u32_be(), plain(b"\0\0\0\x05")),
        (Framing::u16_be(), plain(b"\0\x05")),
        (Framing::u32_be().counts_itself(), plain(b"\0\0\0\x09")),
        (Framing::u16_be().magic(b"\xab\xcd"), plain(b"\xab\xcd\0\x05")),
        (Framing::u32_be().offset(4).keep_header(), (kept(5), kept(5))),
        (Framing::u32_be().offset(4).counts_everything().keep_header(), (kept(13), kept(13))),
    ];
    for (mut framing, (sent, seen)) in rows {
        let mut line = BytesMut::from(&sent.repeat(2)[..]);
        for _ in 0..2 {
            assert_eq!(framing.decode(&mut line).unwrap().unwrap(), seen, "{framing:?}");
        }
        assert!(line.is_empty(), "{framing:?}");
    }
}
