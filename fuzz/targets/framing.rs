//! The frames of foreign servers: any framing, any bytes, cut anywhere. The same frames come out, none is longer than it may be,
//! and what is framed is taken apart to the same.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use steadfast::Framing;
use tokio_util::codec::{Decoder as _, Encoder as _};

/// One that the fuzzer's own lengths reach, and one that they do not.
const LIMITS: [usize; 2] = [40, 10_000];
const KEEPS_HEADER: u8 = 3;

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first_chunk::<3>() else { return };
    let limit = LIMITS[usize::from(choice[1] % 2)];
    let mut framing = any(choice[0]).limit(limit);
    let cut = usize::from(choice[1]) + 1;
    let whole = frames(&mut framing.clone(), limit, std::iter::once(rest));
    assert_eq!(frames(&mut framing.clone(), limit, rest.chunks(cut)), whole);
    let mut out = BytesMut::new();
    let frame = Bytes::copy_from_slice(&rest[..rest.len().min(usize::from(choice[2]))]);
    // A header that is kept is sent with its length filled in.
    let keeps_header = choice[0] / 8 % 6 == KEEPS_HEADER;
    if !keeps_header && framing.encode(frame.clone(), &mut out).is_ok() {
        let again = framing.decode(&mut out).expect("our own").expect("a whole one");
        assert_eq!((again, out.len()), (frame, 0));
    }
});

fn any(choice: u8) -> Framing {
    let framing = named(choice);
    match choice / 8 % 6 {
        0 => framing.counts_everything(),
        1 => framing.counts_itself(),
        2 => framing.magic(b"SF").offset(2),
        KEEPS_HEADER => framing.offset(4).keep_header(),
        _ => framing,
    }
}

fn named(choice: u8) -> Framing {
    match choice % 8 {
        0 => Framing::u8(),
        1 => Framing::u16_be(),
        2 => Framing::u16_le(),
        3 => Framing::u32_be(),
        4 => Framing::u32_le(),
        5 => Framing::u64_be(),
        6 => Framing::u64_le(),
        _ => Framing::u24_be(),
    }
}

/// All of them, and whether the last thing was an error.
fn frames<'a>(
    framing: &mut Framing,
    limit: usize,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Bytes>, bool) {
    let (mut input, mut frames) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match framing.decode(&mut input) {
                Ok(Some(frame)) => {
                    assert!(frame.len() <= limit);
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}
