//! Places, waiters and slots, by hand.

#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use super::*;

fn ledger(capacities: &[usize]) -> Ledger {
    let mut ledger = Ledger::new(100, 1000);
    ledger.resize(capacities.len(), capacities.len());
    for (slot, capacity) in capacities.iter().enumerate() {
        if *capacity > 0 {
            ledger.open(slot, *capacity, &mut Wakes::default());
        }
    }
    ledger
}

#[test]
fn the_least_loaded_slot_is_taken_and_equals_take_turns() {
    let mut ledger = ledger(&[2, 0, 9]);
    let slots: Vec<_> =
        (0..7).map(|_| ledger.place(Share::One, &[]).map(|place| place.slot)).collect();
    let expected = [0, 2, 0, 2, 2, 2, 2].map(Some);
    assert_eq!(slots, expected);
}

#[test]
fn the_slots_to_avoid_are_taken_in_order_and_only_when_there_is_no_other() {
    let mut ledger = ledger(&[9, 1, 9]);
    assert_eq!(ledger.place(Share::One, &[0, 2]).unwrap().slot, 1);
    assert_eq!(ledger.place(Share::One, &[0, 2]).unwrap().slot, 0);
    assert_eq!(ledger.place(Share::One, &[2, 0]).unwrap().slot, 2);
}

#[test]
fn waiters_are_served_first_in_first_out_and_before_newcomers() {
    let mut ledger = ledger(&[1]);
    let waker = Waker::noop();
    let place = ledger.place(Share::One, &[]).unwrap();
    let first = ledger.wait(Share::One, 10, waker).unwrap();
    let second = ledger.wait(Share::One, 10, waker).unwrap();
    assert_eq!(ledger.place(Share::One, &[]), None);
    let mut wake = Wakes::default();
    ledger.release(place, &mut wake);
    assert_eq!(wake.len(), 1);
    assert_eq!(ledger.place(Share::One, &[]), None);
    assert_eq!(ledger.claim(second, waker).0, None);
    let place = ledger.claim(first, waker).0.unwrap();
    ledger.release(place, &mut wake);
    assert!(ledger.claim(second, waker).0.is_some());
    assert_eq!((ledger.waiting(), ledger.waiting_bytes), (0, 0));
}

#[test]
fn who_leaves_passes_a_granted_place_on() {
    let mut ledger = ledger(&[1]);
    let waker = Waker::noop();
    let place = ledger.place(Share::One, &[]).unwrap();
    let tickets: Vec<_> = (0..3).map(|_| ledger.wait(Share::One, 1, waker).unwrap()).collect();
    let mut wake = Wakes::default();
    ledger.release(place, &mut wake);
    ledger.leave(tickets[1], &mut wake);
    ledger.leave(tickets[0], &mut wake);
    let place = ledger.claim(tickets[2], waker).0.unwrap();
    ledger.release(place, &mut wake);
    assert_eq!((ledger.waiting(), ledger.in_flight(), ledger.waiting_bytes), (0, 0, 0));
    assert!(ledger.granted.is_empty());
}

#[test]
fn the_line_is_bounded_by_count_and_bytes() {
    let mut ledger = Ledger::new(2, 100);
    let waker = Waker::noop();
    ledger.wait(Share::One, 60, waker).unwrap();
    assert_eq!(ledger.wait(Share::One, 41, waker), Err(Overload::Bytes { limit: 100 }));
    ledger.wait(Share::One, 40, waker).unwrap();
    assert_eq!(ledger.wait(Share::One, 0, waker), Err(Overload::Waiting { limit: 2 }));
}

/// Some that wait on a ledger without room, each with the end of its time.
fn waiting<const N: usize>(ledger: &mut Ledger, waits: [(Share, Instant); N]) -> [Ticket; N] {
    waits.map(|(share, until)| {
        let ticket = ledger.wait(share, 1, Waker::noop()).unwrap();
        ledger.limit(ticket, until);
        ticket
    })
}

#[test]
fn those_whose_time_is_over_leave_the_line_and_nobody_is_looked_for_before() {
    let (mut ledger, start) = (ledger(&[1]), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let place = ledger.place(Share::One, &[]).unwrap();
    let waits = [20, 40, 10, 30].map(|seconds| (Share::One, at(seconds)));
    let [first, second, third, fourth] = waiting(&mut ledger, waits);
    assert_eq!(ledger.look_at(), Some(at(10)));
    let mut wake = Wakes::default();
    ledger.expire(at(9), &mut wake);
    assert_eq!((wake.len(), ledger.waiting()), (0, 4));
    ledger.expire(at(20), &mut wake);
    assert_eq!((wake.len(), ledger.waiting(), ledger.waiting_bytes), (2, 2, 2));
    assert!(!ledger.is_waiting(first) && !ledger.is_waiting(third));
    assert_eq!(ledger.look_at(), Some(at(30)));
    // It was there before the fourth.
    ledger.release(place, &mut wake);
    assert!(ledger.is_waiting(fourth) && ledger.claim(second, Waker::noop()).0.is_some());
    ledger.expire(at(30), &mut wake);
    assert_eq!((ledger.waiting(), ledger.look_at()), (0, None));
}

#[test]
fn who_wanted_all_of_a_connection_and_waits_no_more_holds_up_nobody() {
    let (mut ledger, start) = (ledger(&[2]), Instant::now());
    let later = start + Duration::from_secs(1);
    ledger.place(Share::One, &[]).unwrap();
    let [_, one] = waiting(&mut ledger, [(Share::Whole, start), (Share::One, later)]);
    let mut wake = Wakes::default();
    ledger.expire(start, &mut wake);
    assert_eq!(wake.len(), 2);
    assert!(ledger.claim(one, Waker::noop()).0.is_some());
}

#[test]
fn who_does_not_come_for_a_place_in_their_time_passes_it_on() {
    let (mut ledger, start) = (ledger(&[1]), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let place = ledger.place(Share::One, &[]).unwrap();
    let waits = [(Share::One, at(20)), (Share::One, at(10)), (Share::One, at(30))];
    let [first, second, third] = waiting(&mut ledger, waits);
    let mut wake = Wakes::default();
    ledger.release(place, &mut wake);
    ledger.expire(at(10), &mut wake);
    assert!(!ledger.is_waiting(second));
    assert_eq!((ledger.look_at(), wake.len()), (Some(at(20)), 2));
    ledger.expire(at(20), &mut wake);
    assert_eq!((ledger.look_at(), wake.len()), (Some(at(30)), 3));
    assert!(ledger.claim(first, Waker::noop()).0.is_none() && !ledger.is_waiting(first));
    assert!(ledger.claim(third, Waker::noop()).0.is_some());
    ledger.expire(at(30), &mut wake);
    assert_eq!((ledger.look_at(), ledger.in_flight()), (None, 1));
}

#[test]
fn who_may_lose_a_place_again_is_looked_for() {
    let (mut ledger, start) = (ledger(&[1]), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let place = ledger.place(Share::One, &[]).unwrap();
    let [first, _] = waiting(&mut ledger, [(Share::One, at(20)), (Share::One, at(10))]);
    let mut wake = Wakes::default();
    ledger.release(place, &mut wake);
    ledger.expire(at(10), &mut wake);
    ledger.shut(0, &mut wake);
    assert!(ledger.is_waiting(first));
    assert_eq!(ledger.look_at(), Some(at(20)));
    ledger.expire(at(20), &mut wake);
    assert!(!ledger.is_waiting(first));
}

#[test]
fn a_place_that_dies_before_it_is_claimed_leaves_its_owner_where_it_stood() {
    let mut ledger = ledger(&[1, 0]);
    let waker = Waker::noop();
    let place = ledger.place(Share::One, &[]).unwrap();
    let first = ledger.wait(Share::One, 1, waker).unwrap();
    let second = ledger.wait(Share::One, 1, waker).unwrap();
    ledger.release(place, &mut Wakes::default());
    ledger.shut(0, &mut Wakes::default());
    assert_eq!((ledger.waiting(), ledger.in_flight()), (2, 0));
    ledger.open(1, 1, &mut Wakes::default());
    assert_eq!(ledger.claim(second, waker).0, None);
    assert_eq!(ledger.claim(first, waker).0.unwrap().slot, 1);
}

#[test]
fn a_place_on_an_earlier_connection_frees_nothing_on_the_next() {
    let mut ledger = ledger(&[1]);
    let old = ledger.place(Share::One, &[]).unwrap();
    ledger.shut(0, &mut Wakes::default());
    assert_eq!(ledger.place(Share::One, &[]), None);
    ledger.open(0, 1, &mut Wakes::default());
    let new = ledger.place(Share::One, &[]).unwrap();
    ledger.release(old, &mut Wakes::default());
    assert_eq!(ledger.place(Share::One, &[]), None);
    ledger.release(new, &mut Wakes::default());
    assert!(ledger.place(Share::One, &[]).is_some());
}

#[test]
fn spare_slots_are_used_the_less_the_higher_their_number() {
    let mut ledger = ledger(&[3, 3, 3, 3]);
    ledger.resize(4, 2);
    let waker = &mut Wakes::default();
    // One call at a time: the two that are kept take turns, and the spare ones are left alone.
    let mut one_at_a_time = |ledger: &mut Ledger| {
        let place = ledger.place(Share::One, &[]).unwrap();
        ledger.release(place, waker);
        place.slot
    };
    assert_eq!([(); 4].map(|()| one_at_a_time(&mut ledger)), [0, 1, 0, 1]);
    let all = [(); 5].map(|()| ledger.place(Share::One, &[]).unwrap().slot);
    assert_eq!(all, [0, 1, 2, 3, 0]);
    ledger.resize(4, 0);
    assert_eq!(ledger.place(Share::One, &[]).unwrap().slot, 1);
    assert_eq!(ledger.usage(3), Usage { given: 1, in_flight: 1 });
}

#[test]
fn the_first_slot_that_takes_no_calls_is_not_looked_for_among_those_that_are_kept() {
    let mut ledger = ledger(&[0, 1, 1, 0, 0]);
    for (kept, first) in [(0, Some(0)), (1, Some(3)), (4, Some(4)), (5, None)] {
        ledger.resize(5, kept);
        assert_eq!(ledger.first_shut(), first, "{kept}");
    }
}

#[test]
fn a_place_on_a_slot_that_is_gone_counts_until_it_is_given_back_and_never_for_another() {
    let mut ledger = ledger(&[1, 1]);
    let [_, old] = [(); 2].map(|()| ledger.place(Share::One, &[]).unwrap());
    assert_eq!(old.slot, 1);
    ledger.shut(1, &mut Wakes::default());
    ledger.resize(1, 1);
    assert_eq!((ledger.in_flight(), ledger.is_current(old)), (2, false));
    ledger.resize(2, 2);
    ledger.open(1, 1, &mut Wakes::default());
    let new = ledger.place(Share::One, &[]).unwrap();
    ledger.release(old, &mut Wakes::default());
    assert_eq!((ledger.in_flight(), ledger.place(Share::One, &[])), (2, None));
    assert!(ledger.is_current(new));
}

/// A lease that waits holds up the calls behind it, and no longer than it waits.
#[test]
fn who_gives_up_waiting_for_all_of_a_connection_lets_those_behind_pass() {
    let mut ledger = ledger(&[4]);
    let (waker, mut wake) = (Waker::noop(), Wakes::default());
    let _long = ledger.place(Share::One, &[]).unwrap();
    let whole = ledger.wait(Share::Whole, 0, waker).unwrap();
    let ones = [(); 2].map(|()| ledger.wait(Share::One, 0, waker).unwrap());
    ledger.leave(whole, &mut wake);
    assert_eq!(wake.len(), 2);
    assert!(ones.iter().all(|ticket| ledger.claim(*ticket, waker).0.is_some()));
}

#[test]
fn all_of_a_connection_is_had_alone() {
    let mut ledger = ledger(&[4, 4]);
    let first = ledger.place(Share::Whole, &[]).unwrap();
    let other = ledger.place(Share::One, &[]).unwrap();
    assert_ne!(first.slot, other.slot);
    assert_eq!(ledger.place(Share::Whole, &[]), None);
    assert_eq!(ledger.place_on(first.slot), None);
    let others = [(); 3].map(|()| ledger.place(Share::One, &[]).unwrap().slot);
    assert_eq!(others, [other.slot; 3]);
    assert_eq!(ledger.place(Share::One, &[]), None);
    ledger.release(first, &mut Wakes::default());
    assert_eq!(ledger.place(Share::Whole, &[]).unwrap().slot, first.slot);
}

#[test]
fn whoever_waits_is_served_in_turn_whatever_their_share() {
    use Share::{One, Whole};
    let mut ledger = ledger(&[2]);
    let (waker, mut wake) = (Waker::noop(), Wakes::default());
    let mut places: Vec<_> = (0..2).map(|_| ledger.place(One, &[]).unwrap()).collect();
    let shares = [Whole, One, One, One, Whole, Whole, One];
    let mut waiting: Vec<_> =
        shares.iter().map(|share| ledger.wait(*share, 0, waker).unwrap()).collect();
    let mut served = Vec::new();
    while !waiting.is_empty() {
        for place in places.drain(..) {
            ledger.release(place, &mut wake);
        }
        let mut batch = 0;
        waiting.retain(|ticket| match ledger.claim(*ticket, waker).0 {
            Some(place) => {
                places.push(place);
                batch += 1;
                false
            }
            None => true,
        });
        served.push(batch);
    }
    // Alone, two, one because behind it somebody wants to be alone, two of those, and the last.
    assert_eq!(served, [1, 2, 1, 1, 1, 1]);
}

/// On the slot where it was, and on all others too.
#[test]
fn when_all_of_a_connection_is_given_to_one_the_others_go_elsewhere() {
    let mut ledger = ledger(&[2, 2]);
    let (waker, mut wake) = (Waker::noop(), Wakes::default());
    let [first, _second] = [(); 2].map(|()| ledger.place(Share::One, &[]).unwrap());
    let whole = ledger.wait(Share::Whole, 0, waker).unwrap();
    let one = ledger.wait(Share::One, 0, waker).unwrap();
    ledger.release(first, &mut wake);
    assert_eq!(ledger.claim(whole, waker).0.unwrap().slot, 0);
    assert_eq!(ledger.claim(one, waker).0.unwrap().slot, 1);
}

#[test]
fn all_of_an_earlier_connection_is_nothing_of_the_next() {
    let mut ledger = ledger(&[2]);
    let mut wake = Wakes::default();
    let old = ledger.place(Share::Whole, &[]).unwrap();
    ledger.shut(0, &mut wake);
    ledger.open(0, 2, &mut wake);
    let new = ledger.place(Share::Whole, &[]).unwrap();
    ledger.release(old, &mut wake);
    assert_eq!((ledger.place(Share::One, &[]), ledger.in_flight()), (None, 1));
    ledger.release(new, &mut wake);
    // Gone with its slot.
    let gone = ledger.place(Share::Whole, &[]).unwrap();
    ledger.resize(0, 0);
    assert_eq!(ledger.in_flight(), 1);
    ledger.resize(1, 1);
    ledger.open(0, 2, &mut wake);
    ledger.release(gone, &mut wake);
    assert_eq!(ledger.in_flight(), 0);
    assert!(ledger.place(Share::Whole, &[]).is_some());
}

/// Handed over and not taken when the connection ends: it stands where it stood, with its share.
#[test]
fn who_was_handed_all_of_a_connection_that_ends_waits_again() {
    let mut ledger = ledger(&[1, 0]);
    let (waker, mut wake) = (Waker::noop(), Wakes::default());
    let place = ledger.place(Share::One, &[]).unwrap();
    let whole = ledger.wait(Share::Whole, 0, waker).unwrap();
    let one = ledger.wait(Share::One, 0, waker).unwrap();
    ledger.release(place, &mut wake);
    ledger.shut(0, &mut wake);
    assert_eq!((ledger.waiting(), ledger.in_flight()), (2, 0));
    ledger.open(1, 2, &mut wake);
    assert_eq!(ledger.claim(one, waker).0, None);
    let place = ledger.claim(whole, waker).0.unwrap();
    ledger.release(place, &mut wake);
    assert!(ledger.claim(one, waker).0.is_some());
}

/// Any sequence: nobody waits who could have a place, and in the end nothing is taken.
#[test]
fn no_place_coexists_with_one_who_waits_for_it() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut ledger = ledger(&[1, 3, 3]);
        let (waker, mut wake) = (Waker::noop(), Wakes::default());
        let (mut places, mut tickets) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            let share = if rng.bool() { Share::One } else { Share::Whole };
            match rng.u8(..8) {
                0..3 => match ledger.place(share, &[]) {
                    Some(place) => places.push(place),
                    None => tickets.extend(ledger.wait(share, 0, waker)),
                },
                3..5 if !places.is_empty() => {
                    ledger.release(places.swap_remove(rng.usize(..places.len())), &mut wake);
                }
                5 if !tickets.is_empty() => {
                    ledger.leave(tickets.swap_remove(rng.usize(..tickets.len())), &mut wake);
                }
                6 => tickets.retain(|ticket| match ledger.claim(*ticket, waker).0 {
                    Some(place) => {
                        places.push(place);
                        false
                    }
                    None => true,
                }),
                7 if rng.u8(..8) == 0 => {
                    let slot = rng.usize(..3);
                    ledger.shut(slot, &mut wake);
                    ledger.open(slot, rng.usize(1..4), &mut wake);
                }
                _ => {}
            }
            if let Some(first) = ledger.waiting.first() {
                let fits = ledger.slots.iter().any(|slot| slot.has_room(first.share));
                assert!(!fits, "seed {seed}: {ledger:?}");
            }
        }
        tickets.iter().for_each(|ticket| drop(ledger.leave(*ticket, &mut wake)));
        places.drain(..).for_each(|place| ledger.release(place, &mut wake));
        assert_eq!((ledger.in_flight(), ledger.waiting()), (0, 0), "seed {seed}");
        assert!(ledger.granted.is_empty() && ledger.slots.iter().all(|slot| !slot.lent));
    }
}
