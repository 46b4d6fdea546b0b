//! Clients that come back in the very moment in which their last connection ends.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::policy::Heartbeat;
use crate::proto::replies::Response;
use crate::proto::serving::Bounds;
use crate::server::clients::client::DROP_BYTES;
use crate::server::clients::membership::Reception;

fn hello(client: u32, connection: u64, replaces: u64) -> Hello {
    Hello {
        min_version: 1,
        max_version: 1,
        client: ClientId(u128::from(client).to_be_bytes()),
        connection,
        replaces,
        max_message: 1,
        every: 0,
        give_up_after: 0,
        next_id: 1,
    }
}

fn connection() -> Connection<Serving> {
    let bounds = Bounds { send: 1, receive: 1, in_flight: 1, held_bytes: 1, idle_limit: None };
    Connection::new(Serving::new(now(), Heartbeat::default(), None, bounds))
}

/// A race, so it is run often: one thread ends each client's connection, another takes in the one after it.
#[test]
fn a_client_that_comes_back_while_its_last_connection_ends_is_not_forgotten() {
    let age = Duration::from_secs(60);
    let clients = Arc::new(Clients::new(ReplyCache::default().age(age), usize::MAX));
    let old: Vec<_> =
        (0..20_000).map(|id| clients.admit(&hello(id, 1, 0), 1, &connection())).collect();
    let turn = AtomicUsize::new(0);
    let reach = |number: usize| {
        while turn.load(Ordering::SeqCst) < number {
            std::hint::spin_loop();
        }
        // Not always in the same moment.
        (0..number % 61).for_each(|_| std::hint::spin_loop());
    };
    let new: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| {
            for (number, old) in old.iter().enumerate() {
                reach(number);
                old.leave();
            }
        });
        let back = |id| {
            let (hello, next) = (hello(id, 2, u64::from(id % 2)), connection());
            turn.store(id as usize, Ordering::SeqCst);
            clients.admit(&hello, 2, &next)
        };
        (0..20_000).map(back).collect()
    });
    clients.expire(now() + 2 * age);
    let forgotten = |new: &&Arc<Membership>| !matches!(new.begin(1, 1), Reception::Run(_));
    assert_eq!(new.iter().filter(forgotten).count(), 0, "forgotten, though connected");
}

#[test]
fn a_long_answer_that_its_client_has_settled_is_dropped_with_its_next_call() {
    let clients = Arc::new(Clients::new(ReplyCache::default(), usize::MAX));
    let membership = clients.admit(&hello(1, 1, 0), 1, &connection());
    assert!(matches!(membership.begin(1, 1), Reception::Run(_)));
    let body = bytes::Bytes::from(vec![0; DROP_BYTES]);
    membership.settle(now(), [(1, Response::Reply(body.clone()))].into_iter());
    assert!(!body.is_unique());
    assert!(matches!(membership.begin(2, 2), Reception::Run(_)));
    assert!(body.is_unique());
}
