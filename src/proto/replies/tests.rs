//! The reply cache as tables: what came, what was answered; what the same call is when it comes again.

#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use proptest::prelude::*;

use super::*;

struct Server {
    replies: Replies,
    room: Room,
    swept: Swept,
    start: Instant,
}

fn policy() -> policy::ReplyCache {
    policy::ReplyCache::default()
        .calls(3)
        .bytes(1000)
        .age(Duration::from_secs(60))
        .total_bytes(5000)
}

fn server(policy: policy::ReplyCache, next_id: u64) -> Server {
    let (replies, room) = (Replies::new(policy, next_id), Room::new(policy.total_bytes));
    Server { replies, room, swept: Swept::default(), start: Instant::now() }
}

fn reply(length: usize) -> Response {
    Response::Reply(vec![b'r'; length].into())
}

impl Server {
    /// The request comes on connection 1.
    fn asks(&mut self, id: u64, oldest: u64) -> Seen {
        self.asks_on(1, id, oldest)
    }

    fn asks_on(&mut self, connection: u64, id: u64, oldest: u64) -> Seen {
        self.replies.begin(connection, id, oldest, &self.room, &mut self.swept)
    }

    fn settles(&mut self, id: u64, response: &Response) -> Vec<u64> {
        self.settles_at(0, id, response)
    }

    fn settles_at(&mut self, seconds: u64, id: u64, response: &Response) -> Vec<u64> {
        let now = self.start + Duration::from_secs(seconds);
        self.replies.settle(now, 1, id, response.clone(), &self.room, &mut self.swept)
    }

    fn runs(&mut self, id: u64, response: &Response) {
        assert_eq!(self.asks(id, 1), Seen::New, "{id}");
        assert_eq!(self.settles(id, response), [0u64; 0]);
    }

    fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.room.is_empty()
    }
}

#[test]
fn a_call_that_comes_again_gets_the_answer_that_it_had() {
    let mut server = server(policy(), 1);
    let error = Response::Error(ErrorReply::new(404, "no apples"));
    let refused = Response::Refused(Refusal { code: Refusal::EXPIRED, retry_after: None });
    for (id, response) in [(5, reply(10)), (2, error), (9, refused)] {
        server.runs(id, &response);
        assert_eq!(server.asks(id, 1), Seen::Answered(response.clone()));
        assert_eq!(server.asks_on(8, id, 1), Seen::Answered(response));
    }
}

#[test]
fn a_call_that_runs_is_joined_and_its_answer_goes_to_those_connections_that_live() {
    let mut server = server(policy(), 1);
    assert_eq!(server.asks_on(1, 7, 1), Seen::New);
    for connection in [2, 3, 4] {
        assert_eq!(server.asks_on(connection, 7, 1), Seen::Joined);
    }
    server.replies.leave(3);
    assert_eq!(server.settles(7, &reply(1)), [2, 4]);
    assert_eq!(server.settles(7, &reply(2)), [0u64; 0], "settled once");
    assert_eq!(server.asks(7, 1), Seen::Answered(reply(1)));
}

#[test]
fn what_the_client_has_settled_is_forgotten_and_never_new_again() {
    let mut server = server(policy(), 1);
    server.runs(1, &reply(1));
    assert_eq!(server.asks(2, 1), Seen::New);
    assert_eq!(server.asks(3, 3), Seen::New);
    assert_eq!(server.swept.abandoned, [2]);
    assert_eq!(server.swept.responses, [reply(1)]);
    for old in [1, 2] {
        assert_eq!(server.asks(old, 3), Seen::Evicted);
    }
    // A request that was made earlier may say less.
    assert_eq!(server.asks(4, 1), Seen::New);
    assert_eq!(server.asks(2, 1), Seen::Evicted);
    assert_eq!(server.settles(2, &reply(1)), [0u64; 0]);
    assert_eq!(server.asks(2, 1), Seen::Evicted);
    server.replies.clear(&server.room, &mut server.swept);
    assert!(server.is_empty());
}

#[test]
fn a_connection_that_joined_a_call_is_answered_also_when_the_client_has_settled_it() {
    let mut server = server(policy(), 1);
    assert_eq!(server.asks_on(1, 1, 1), Seen::New);
    assert_eq!(server.asks_on(2, 1, 1), Seen::Joined);
    assert_eq!(server.asks_on(2, 2, 2), Seen::New);
    assert_eq!(server.swept.abandoned, [1]);
    assert_eq!(server.settles(1, &reply(1)), [2]);
    assert_eq!(server.asks(1, 2), Seen::Evicted);
}

#[test]
fn ids_from_before_the_client_was_known_are_never_new() {
    let mut server = server(policy(), 100);
    assert_eq!(server.asks(99, 1), Seen::Evicted);
    assert_eq!(server.asks(100, 1), Seen::New);
}

#[test]
fn the_oldest_answers_make_room_for_new_ones() {
    // Three calls, or 1000 bytes with 64 for each.
    for (lengths, evicted) in [
        (vec![1, 1, 1], 0),
        (vec![1, 1, 1, 1], 1),
        (vec![436, 436], 0),
        (vec![436, 437], 1),
        (vec![100, 100, 936], 2),
        (vec![436, 436, 1], 1),
    ] {
        let mut server = server(policy(), 1);
        let count = lengths.len() as u64;
        for (id, length) in (1..).zip(&lengths) {
            server.runs(id, &reply(*length));
        }
        assert_eq!(server.swept.responses.len(), evicted, "{lengths:?}");
        for (id, length) in (1..=count).zip(&lengths) {
            let expected = match id as usize <= evicted {
                true => Seen::Evicted,
                false => Seen::Answered(reply(*length)),
            };
            assert_eq!(server.asks(id, 1), expected, "{lengths:?} {id}");
        }
    }
}

#[test]
fn an_answer_that_is_too_long_is_known_to_be_lost() {
    let mut server = server(policy(), 1);
    server.runs(1, &reply(10));
    server.runs(2, &reply(937));
    assert_eq!(server.asks(1, 1), Seen::Answered(reply(10)), "it evicts nobody");
    assert_eq!(server.asks(2, 1), Seen::Lost);
}

#[test]
fn all_clients_share_one_room_and_nobody_evicts_the_other() {
    let room = Room::new(200);
    let (mut swept, now) = (Swept::default(), Instant::now());
    let mut clients = [(); 3].map(|()| Replies::new(policy(), 1));
    let mut run = |replies: &mut Replies, id| {
        replies.begin(1, id, 1, &room, &mut swept);
        replies.settle(now, 1, id, reply(36), &room, &mut swept);
        replies.begin(1, id, 1, &room, &mut swept)
    };
    let [first, second, third] = &mut clients;
    assert_eq!(run(first, 1), Seen::Answered(reply(36)));
    assert_eq!(run(second, 1), Seen::Answered(reply(36)));
    // Its own makes way, where it has one.
    assert_eq!(run(second, 2), Seen::Answered(reply(36)));
    assert_eq!(run(second, 1), Seen::Evicted);
    assert_eq!(run(third, 1), Seen::Lost);
    assert_eq!(run(first, 1), Seen::Answered(reply(36)));
    assert_eq!(room.used(), 200);
}

#[test]
fn answers_are_evicted_when_they_are_too_old() {
    let mut server = server(policy(), 1);
    for id in [1, 2] {
        assert_eq!(server.asks(id, 1), Seen::New);
        server.settles_at(id * 10, id, &reply(1));
    }
    let expire = |server: &mut Server, seconds| {
        let now = server.start + Duration::from_secs(seconds);
        server.replies.expire(now, &server.room, &mut server.swept);
    };
    expire(&mut server, 69);
    assert_eq!(server.asks(1, 1), Seen::Answered(reply(1)));
    expire(&mut server, 70);
    assert_eq!(server.asks(1, 1), Seen::Evicted);
    assert_eq!(server.asks(2, 1), Seen::Answered(reply(1)));
}

#[test]
fn a_call_that_has_not_run_can_be_taken_back_unless_a_twin_waits() {
    let mut server = server(policy(), 1);
    assert_eq!(server.asks(1, 1), Seen::New);
    assert!(server.replies.withdraw(1));
    assert!(!server.replies.withdraw(1));
    assert_eq!(server.asks_on(2, 1, 1), Seen::New);
    assert_eq!(server.asks_on(3, 1, 1), Seen::Joined);
    assert!(!server.replies.withdraw(1));
    server.settles(1, &reply(1));
    assert!(!server.replies.withdraw(1), "it has run");
}

#[test]
fn a_client_that_settles_nothing_is_remembered_only_so_far() {
    let mut server = server(policy(), 1);
    for id in 1..=10_000 {
        server.runs(id, &reply(1));
        assert!(server.replies.calls.len() <= 3 * REMEMBERED + 1);
        assert!(server.replies.order.len() <= 32);
    }
    assert_eq!(server.asks(1, 1), Seen::Evicted);
    assert_eq!(server.asks(10_000, 1), Seen::Answered(reply(1)));
}

#[test]
fn a_call_that_comes_late_is_new_however_many_have_gone_before_it() {
    let mut server = server(policy(), 1);
    for id in (1..=10_000).filter(|id| ![5, 500].contains(id)) {
        server.runs(id, &reply(1));
    }
    server.runs(500, &reply(1));
    server.runs(5, &reply(1));
    for id in [4, 5, 6, 499, 500, 501] {
        assert_ne!(server.asks(id, 1), Seen::New, "{id}");
    }
}

/// With a gap behind each id.
#[test]
fn ids_with_gaps_between_them_are_remembered_only_so_far_and_none_is_new_twice() {
    let mut server = server(policy(), 1);
    for id in (1..=10_000).map(|id| 2 * id) {
        server.runs(id, &reply(1));
    }
    for id in 1..=20_000 {
        assert!(id % 2 == 1 || server.asks(id, 1) != Seen::New, "{id}");
    }
    assert_eq!(server.asks(3, 1), Seen::Evicted);
}

proptest! {
    /// Whatever comes in whatever order: nothing is run twice, and what is counted is what is there.
    #[test]
    fn nothing_is_new_twice(steps in prop::collection::vec((0u8..10, 1u64..40, 0usize..600), 1..300)) {
        let mut server = server(policy(), 1);
        let mut ran = std::collections::HashSet::new();
        let mut oldest = 1;
        for (second, (what, id, length)) in steps.into_iter().enumerate() {
            let second = second as u64;
            match what {
                0..=3 => {
                    if server.asks_on(u64::from(what), id, oldest) == Seen::New {
                        prop_assert!(ran.insert(id), "{} ran twice", id);
                    }
                }
                4..=6 => drop(server.settles_at(second, id, &reply(length))),
                7 => oldest = oldest.max(id.min(oldest + 2)),
                8 => server.replies.leave(id % 4),
                _ => {
                    let now = server.start + Duration::from_secs(second);
                    server.replies.expire(now, &server.room, &mut server.swept);
                }
            }
            let kept: Vec<_> = server.replies.calls.iter().filter_map(|(_, state)| match state {
                State::Kept(response) => Some(cost(response)),
                _ => None,
            }).collect();
            let Replies { kept: count, kept_bytes, running, .. } = server.replies;
            prop_assert_eq!((kept.len(), kept.iter().sum::<usize>()), (count, kept_bytes));
            prop_assert_eq!(server.room.used(), kept_bytes);
            prop_assert!(count <= 3 && kept_bytes <= 1000);
            let at_work = server.replies.calls.iter().filter(|(_, state)| matches!(state, State::Running(_)));
            prop_assert_eq!(at_work.count(), running);
        }
        server.replies.clear(&server.room, &mut server.swept);
        prop_assert!(server.is_empty());
    }
}
