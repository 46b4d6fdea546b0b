//! No bytes and no times make either end panic.

use super::*;

/// A frame of any kind with small numbers in it, so that ids and totals meet, or noise.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let id = || prop_oneof![1u64..5, (PUSH_BIT..PUSH_BIT + 3), any::<u64>()];
    let part = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let position = prop::sample::select(vec![Position::Inner, Position::Last]);
    let head = prop_oneof![
        id().prop_map(|id| Head::Reply { id }),
        id().prop_map(|id| Head::Notify { id }),
        id().prop_map(|id| Head::Push { id }),
        (id(), any::<[bool; 2]>(), 0u32..100, id()).prop_map(|(id, flags, remaining, oldest)| {
            let [repeatable, resent] = flags;
            Head::Request(RequestHead { id, repeatable, resent, remaining, oldest })
        }),
    ];
    let numbers = (id(), any::<u32>(), any::<u32>());
    let frame = prop_oneof![
        6 => (head, prop::option::of(0u32..40), part())
            .prop_map(|(head, total, part)| Frame::Message { head, total, part }),
        6 => (id(), position, part())
            .prop_map(|(id, position, part)| Frame::Chunk { id, position, part }),
        1 => numbers.clone().prop_map(|(id, code, _)| Frame::Error { id, code, text: "x".into() }),
        1 => numbers.prop_map(|(id, code, retry_after)| Frame::Refused { id, code, retry_after }),
        1 => id().prop_map(|id| Frame::Cancel { id }),
        1 => any::<u64>().prop_map(|nonce| Frame::Ping { nonce }),
        1 => (0x80u8..).prop_map(|kind| Frame::Unknown { kind }),
    ];
    prop_oneof![
        9 => frame.prop_map(|frame| {
            let mut bytes = BytesMut::new();
            frame.encode(&mut bytes);
            bytes.to_vec()
        }),
        1 => prop::collection::vec(any::<u8>(), 1..60),
    ]
}

/// Feeds an end with anything at any time, until it has had enough.
fn feed(mut end: End<impl Session>, start: Instant, pieces: Vec<(Vec<u8>, u64, usize)>) {
    let mut now = start;
    for (bytes, wait, written) in pieces {
        now += Duration::from_millis(wait);
        end.input.bytes.extend_from_slice(&bytes);
        let heard = end.session.received(now, &mut end.input, &mut end.effects);
        end.write(now, written);
        let timed = end.session.timeout(now, &mut end.effects);
        if heard.is_err() || timed.is_err() {
            break;
        }
    }
    end.write(now, usize::MAX);
    assert!(end.line.len() < 1 << 20, "no more is said than was heard");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_and_no_times_make_an_end_panic(
        pieces in prop::collection::vec((hostile(), 0u64..20_000, 0usize..200), 1..60),
        calls in 0u64..5,
    ) {
        let World { now, mut client, server, .. } = World::new();
        let kind = Kind::Request { repeatable: false, resent: false };
        for id in 1..=calls {
            let (body, deadline) = (body(id, 10 * id as usize), now + Duration::from_secs(5 * id));
            let start = Start { id, kind, head: &[], body: &body, deadline, oldest: 1, place: None };
            client.session.start(now, &start, Waker::noop()).unwrap();
        }
        feed(client, now, pieces.clone());
        feed(server, now, pieces);
    }
}
