//! Places, waiters and slots, by hand.

use super::*;

fn ledger(capacities: &[usize]) -> Ledger {
    let mut ledger = Ledger::new(100, 1000);
    ledger.resize(capacities.len(), capacities.len());
    for (slot, capacity) in capacities.iter().enumerate() {
        if *capacity > 0 {
            ledger.open(slot, *capacity, &mut Vec::new());
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
    let mut wake = Vec::new();
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
    let mut wake = Vec::new();
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

#[test]
fn a_place_that_dies_before_it_is_claimed_leaves_its_owner_where_it_stood() {
    let mut ledger = ledger(&[1, 0]);
    let waker = Waker::noop();
    let place = ledger.place(Share::One, &[]).unwrap();
    let first = ledger.wait(Share::One, 1, waker).unwrap();
    let second = ledger.wait(Share::One, 1, waker).unwrap();
    ledger.release(place, &mut Vec::new());
    ledger.shut(0, &mut Vec::new());
    assert_eq!((ledger.waiting(), ledger.in_flight()), (2, 0));
    ledger.open(1, 1, &mut Vec::new());
    assert_eq!(ledger.claim(second, waker).0, None);
    assert_eq!(ledger.claim(first, waker).0.unwrap().slot, 1);
}

#[test]
fn a_place_on_an_earlier_connection_frees_nothing_on_the_next() {
    let mut ledger = ledger(&[1]);
    let old = ledger.place(Share::One, &[]).unwrap();
    ledger.shut(0, &mut Vec::new());
    assert_eq!(ledger.place(Share::One, &[]), None);
    ledger.open(0, 1, &mut Vec::new());
    let new = ledger.place(Share::One, &[]).unwrap();
    ledger.release(old, &mut Vec::new());
    assert_eq!(ledger.place(Share::One, &[]), None);
    ledger.release(new, &mut Vec::new());
    assert!(ledger.place(Share::One, &[]).is_some());
}

#[test]
fn slots_that_are_not_equals_are_used_the_less_the_higher_their_number() {
    let mut ledger = ledger(&[3, 3, 3, 3]);
    ledger.resize(4, 2);
    let waker = &mut Vec::new();
    // One call at a time: the two equals take turns, and the others are left alone.
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
fn the_first_slot_that_takes_no_calls_is_not_looked_for_among_equals() {
    let mut ledger = ledger(&[0, 1, 1, 0, 0]);
    for (equals, first) in [(0, Some(0)), (1, Some(3)), (4, Some(4)), (5, None)] {
        ledger.resize(5, equals);
        assert_eq!(ledger.first_shut(), first, "{equals}");
    }
}

#[test]
fn a_place_on_a_slot_that_is_gone_counts_until_it_is_given_back_and_never_for_another() {
    let mut ledger = ledger(&[1, 1]);
    let [_, old] = [(); 2].map(|()| ledger.place(Share::One, &[]).unwrap());
    assert_eq!(old.slot, 1);
    ledger.shut(1, &mut Vec::new());
    ledger.resize(1, 1);
    assert_eq!((ledger.in_flight(), ledger.is_current(old)), (2, false));
    ledger.resize(2, 2);
    ledger.open(1, 1, &mut Vec::new());
    let new = ledger.place(Share::One, &[]).unwrap();
    ledger.release(old, &mut Vec::new());
    assert_eq!((ledger.in_flight(), ledger.place(Share::One, &[])), (2, None));
    assert!(ledger.is_current(new));
}
