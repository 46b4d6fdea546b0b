//! What two ends say to each other when nobody has anything to say.

use super::*;

const EVERY: Duration = Duration::from_secs(5);
const MINUTE: u64 = 60_000;

/// What an end has to say now, handed over to the operating system.
fn say<S: Session>(end: &mut S, now: Instant) -> BytesMut {
    let (mut out, mut effects) = (VecDeque::new(), Effects::default());
    end.timeout(now, &mut effects).unwrap();
    end.transmit(now, &mut out);
    let bytes: BytesMut = out.iter().flatten().copied().collect();
    if !bytes.is_empty() {
        end.written(now, bytes.len(), &mut effects);
    }
    bytes
}

fn hear<S: Session>(end: &mut S, now: Instant, bytes: &BytesMut) {
    if !bytes.is_empty() {
        end.received(now, &mut bytes.clone().into(), &mut Effects::default()).unwrap();
    }
}

#[test]
fn of_two_idle_ends_one_asks_and_the_other_answers_and_both_are_heard_often_enough() {
    let start = Instant::now();
    let heartbeat = policy::Heartbeat::every(EVERY).give_up_after(2 * EVERY);
    let bounds = calling::Bounds { send: LONGEST, receive: LONGEST, queued_bytes: usize::MAX };
    let mut client = Client::new(start, heartbeat, Some(EVERY), bounds);
    let (send, receive, held_bytes) = (LONGEST, LONGEST, usize::MAX);
    let bounds = serving::Bounds { send, receive, in_flight: 20, held_bytes, idle_limit: None };
    let mut server = Serving::new(start, heartbeat, Some(EVERY), bounds);
    let (mut by_client, mut by_server) = (vec![start], vec![start]);
    for ms in 1..=MINUTE {
        let now = start + Duration::from_millis(ms);
        // The worst order: both look at the same time.
        let (asked, answered) = (say(&mut client, now), say(&mut server, now));
        hear(&mut server, now, &asked);
        hear(&mut client, now, &answered);
        by_client.extend((!asked.is_empty()).then_some(now));
        by_server.extend((!answered.is_empty()).then_some(now));
    }
    for said in [by_client, by_server] {
        // Its start, and once in each round, which are a little shorter than need be.
        assert!(said.len() <= 1 + 13, "{} in a minute", said.len() - 1);
        assert!(said.windows(2).all(|two| two[1] - two[0] <= EVERY), "{said:?}");
    }
}
