//! Any framing, against frames made by hand, tokio-util's codec, and garbage.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use tokio_util::codec::{Decoder, LengthDelimitedCodec};

use super::*;
use crate::proto::framing::count::FramingCount;

/// A framing in other words: those of who makes the bytes by hand.
#[derive(Debug, Clone)]
struct Shape {
    width: usize,
    order: ByteOrder,
    magic: usize,
    offset: usize,
    counts_from: usize,
    kept: bool,
}

const MAGIC: &[u8] = b"\xab\0\xff\x17";

impl Shape {
    fn framing(&self) -> Framing {
        let framing = Framing::new(self.width, self.order)
            .magic(&MAGIC[..self.magic])
            .offset(self.offset)
            .counts_from(self.counts_from);
        if self.kept { framing.keep_header() } else { framing }
    }

    fn oracle(&self) -> LengthDelimitedCodec {
        let skipped = if self.kept { 0 } else { self.offset + self.width };
        let mut codec = LengthDelimitedCodec::builder();
        match self.order {
            ByteOrder::Big => codec.big_endian(),
            ByteOrder::Little => codec.little_endian(),
        }
        .length_field_offset(self.offset)
        .length_field_length(self.width)
        .length_adjustment(self.counts_from as isize - skipped as isize)
        .num_skip(skipped)
        .new_codec()
    }

    /// A frame on the wire, with fields of `z` where its user has any before the body.
    fn wire(&self, body: &[u8]) -> Vec<u8> {
        let header = self.counts_from.max(self.offset + self.width);
        let mut wire = vec![b'z'; header];
        wire.extend_from_slice(body);
        wire[..self.magic].copy_from_slice(&MAGIC[..self.magic]);
        let number = (wire.len() - self.counts_from) as u64;
        let bytes = match self.order {
            ByteOrder::Big => number.to_be_bytes()[8 - self.width..].to_vec(),
            ByteOrder::Little => number.to_le_bytes()[..self.width].to_vec(),
        };
        wire[self.offset..self.offset + self.width].copy_from_slice(&bytes);
        wire
    }

    /// What a user sees of it.
    fn seen(&self, wire: &[u8]) -> Vec<u8> {
        wire[if self.kept { 0 } else { self.offset + self.width }..].to_vec()
    }

    /// What a user hands over, who does not know what will be filled in.
    fn given(&self, wire: &[u8]) -> Vec<u8> {
        let mut given = self.seen(wire);
        if self.kept {
            given[..self.magic].fill(b'?');
            given[self.offset..self.offset + self.width].fill(b'?');
        }
        given
    }
}

prop_compose! {
    fn shapes()(
        width in 1usize..=8,
        order in prop_oneof![Just(ByteOrder::Big), Just(ByteOrder::Little)],
        magic in 0usize..=4,
        unknown in 0usize..6,
        counts_from in 0usize..30,
        kept in any::<bool>(),
    ) -> Shape {
        let offset = magic + if kept { unknown } else { 0 };
        Shape { width, order, magic, offset, counts_from, kept }
    }
}

fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20)
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..100, 1..200)
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_frames_and_tokio_utils_codec_the_same(
        shape in shapes(), bodies in bodies(), cuts in cuts(),
    ) {
        let wires: Vec<_> = bodies.iter().map(|body| shape.wire(body)).collect();
        let seen: Vec<_> = wires.iter().map(|wire| shape.seen(wire)).collect();
        let (framing, mut oracle) = (shape.framing(), shape.oracle());
        prop_assert_eq!(framing.check(), Ok(()));
        let next = |input: &mut BytesMut| framing.next(input).unwrap().map(Vec::from);
        prop_assert_eq!(&decode(next, &wires.concat(), &cuts), &seen);
        let next = |input: &mut BytesMut| oracle.decode(input).unwrap().map(Vec::from);
        prop_assert_eq!(&decode(next, &wires.concat(), &cuts), &seen);
    }

    #[test]
    fn frames_are_counted_however_the_bytes_are_split(
        shape in shapes(), bodies in bodies(), cuts in cuts(),
    ) {
        let wires: Vec<_> = bodies.iter().map(|body| shape.wire(body)).collect();
        let (framing, wires) = (shape.framing(), wires.concat());
        let (mut count, mut input, mut rest) = (FramingCount::new(framing), BytesMut::new(), &wires[..]);
        let (mut cuts, mut seen) = (cuts.iter().cycle(), 0);
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            rest = tail;
            input.extend_from_slice(piece);
            count.pass(piece);
            while framing.next(&mut input).unwrap().is_some() {
                seen += 1;
            }
            prop_assert_eq!(count.whole(), seen);
            prop_assert_eq!(count.is_in_the_middle(), !input.is_empty());
        }
    }

    #[test]
    fn what_is_encoded_is_what_a_hand_would_write_and_is_decoded_to_the_same(
        shape in shapes(), bodies in bodies(), apart in 0usize..200,
    ) {
        let (framing, mut out, mut seen) = (shape.framing(), BytesMut::new(), Vec::new());
        for body in &bodies {
            let (wire, start) = (shape.wire(body), out.len());
            let given = shape.given(&wire);
            let (head, rest) = given.split_at((framing.head() + apart).min(given.len()));
            framing.begin(&mut out);
            out.extend_from_slice(head);
            prop_assert_eq!(framing.end(start, rest.len(), &mut out), Ok(()));
            out.extend_from_slice(rest);
            prop_assert_eq!(&out[start..], &wire);
            seen.push(shape.seen(&wire));
        }
        let next = |input: &mut BytesMut| framing.next(input).unwrap().map(Vec::from);
        prop_assert_eq!(decode(next, &out, &[70]), seen);
    }

    /// Without magic, and with lengths for which the oracle does not reserve too much.
    #[test]
    fn of_garbage_is_made_what_tokio_utils_codec_makes_of_it(
        shape in shapes(), garbage in prop::collection::vec(0u8..60, 0..300),
    ) {
        let width = 1 + shape.width % 2;
        let shape = Shape { width, magic: 0, offset: 0, kept: false, ..shape };
        let (framing, mut oracle) = (shape.framing(), shape.oracle());
        let (mut ours, mut theirs) = (BytesMut::from(&garbage[..]), BytesMut::from(&garbage[..]));
        loop {
            let frame = framing.next(&mut ours).map_err(drop);
            prop_assert_eq!(&frame, &oracle.decode(&mut theirs).map(|it| it.map(Bytes::from)).map_err(drop));
            if !matches!(frame, Ok(Some(_))) {
                break;
            }
        }
    }

    #[test]
    fn garbage_never_panics_and_reserves_nothing(
        shape in shapes(), limit in 40usize..1000, garbage in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let framing = shape.framing().limit(limit);
        prop_assert_eq!(framing.check(), Ok(()));
        let mut input = BytesMut::from(&[&MAGIC[..shape.magic], &garbage].concat()[..]);
        loop {
            let capacity = input.capacity();
            let Ok(Some(frame)) = framing.next(&mut input) else {
                prop_assert_eq!(input.capacity(), capacity);
                break;
            };
            prop_assert!(frame.len() <= limit);
        }
    }
}
