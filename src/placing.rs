//! A call's wait for a place: a future that leaves the line when it is dropped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::proto::ledger::Ticket;
use crate::roster::link::Taken;
use crate::roster::no_place::NoPlace;
use crate::roster::wish::{Until, Wish};
use crate::switchboard::Switchboard;

/// The future of a place.
///
/// # Cancel safety
/// Dropping it leaves the line; a place that was handed over at that moment goes to the next.
#[derive(Debug)]
pub(crate) struct Placing<'a> {
    board: &'a Switchboard,
    wish: Wish<'a>,
    ticket: Option<Ticket>,
    pub(crate) until: Until,
}

impl<'a> Placing<'a> {
    pub(crate) fn new(board: &'a Switchboard, wish: Wish<'a>) -> Self {
        Self { board, wish, ticket: None, until: Until::Placed }
    }

    /// It waits no longer than that.
    pub(crate) fn until(mut self, until: Until) -> Self {
        self.until = until;
        self
    }

    /// Asks anew.
    pub(crate) fn again(&mut self, until: Until) {
        *self = Self::new(self.board, self.wish).until(until);
    }
}

impl Future for Placing<'_> {
    type Output = Result<Taken, NoPlace>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { board, wish, ticket, until } = &mut *self;
        board.poll_place(*wish, ticket, until, cx)
    }
}

impl Drop for Placing<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.board.leave(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use super::*;
    use crate::clock::now;
    use crate::connection::Connection;
    use crate::connections::Connections;
    use crate::error::call::Scarcity;
    use crate::error::instance::InstanceId;
    use crate::error::outage::Began;
    use crate::fan_out::FanOut;
    use crate::limits::Limits;
    use crate::policy::{Heartbeat, Reconnect, Retry};
    use crate::proto::calling::Bounds;
    use crate::proto::client::Client;
    use crate::proto::course::{ServerMemory, ServerProcess};
    use crate::proto::ledger::Share;
    use crate::proto::reconnect::Plan;
    use crate::proto::resume::{Memory, Resume};
    use crate::proto::sizing::Wanted;
    use crate::roster::link::Link;
    use crate::roster::wish::Patience;

    /// A waker that takes the lock when it is dropped.
    struct Nosy(Arc<Switchboard>, Arc<AtomicUsize>);

    impl Wake for Nosy {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Nosy {
        fn drop(&mut self) {
            let _ = self.0.status();
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A connection that takes calls and leads nowhere.
    fn link(number: u64) -> Link {
        let bounds = Bounds { send: 1, receive: 1, queued_bytes: 1 };
        let client = Client::new(now(), Heartbeat::default(), None, bounds);
        let server =
            ServerProcess { instance: Some(InstanceId([1; 16])), memory: ServerMemory::None };
        Link { connection: Connection::new(client).erased(), foreign: None, number, server }
    }

    fn board(connections: impl Into<Connections>) -> Switchboard {
        let (limits, retry) = (Limits::default().waiting(2), Retry::default());
        let (events, pushes) = (FanOut::new(), FanOut::new());
        let connections = connections.into();
        let board = Switchboard::new("peer:1".into(), connections, &limits, &retry, events, pushes);
        board.resize(connections);
        board
    }

    const WISH: Wish<'static> =
        Wish { share: Share::One, bytes: 0, patience: Patience::Wait, avoid: &[] };

    fn poll(placing: &mut Placing<'_>) -> Poll<Result<Taken, NoPlace>> {
        Pin::new(placing).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Connection 1 takes one call at a time. Somebody was handed that place and has not taken it, and somebody waits behind.
    fn handed_over(board: &Switchboard) -> [Placing<'_>; 2] {
        board.opened(0, link(1), 1);
        let [mut first, mut second, mut third] = [(); 3].map(|()| Placing::new(board, WISH));
        let Poll::Ready(Ok(taken)) = poll(&mut first) else { panic!() };
        assert!(poll(&mut second).is_pending());
        board.release(taken.place);
        assert!(poll(&mut third).is_pending());
        [second, third]
    }

    #[test]
    fn a_place_on_a_connection_that_is_replaced_before_it_is_taken_is_one_on_the_next() {
        let board = board(1);
        let [mut second, mut third] = handed_over(&board);
        board.opened(0, link(2), 1);
        let Poll::Ready(Ok(taken)) = poll(&mut second) else { panic!("turned away") };
        assert_eq!(taken.link.number, 2);
        assert!(poll(&mut third).is_pending());
        assert_eq!(board.status().in_flight, 1);
    }

    /// Nobody begins to wait at that moment who would ring.
    #[test]
    fn those_who_lose_a_place_that_they_had_not_taken_have_another_connection_made() {
        for connections in [0..=2, 1..=2] {
            let board = board(connections);
            let _waiting = handed_over(&board);
            let mut rung = std::pin::pin!(board.demand.notified());
            rung.as_mut().enable();
            board.shut(0, Began::Unknown);
            assert!(rung.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_shown_out_and_the_usher_hears_of_those_whose_time_is_over_sooner()
     {
        let (board, second) = (board(1), Duration::from_secs(1));
        let within = |limit| Placing::new(&board, WISH).until(Until::After(limit));
        let [mut long, mut short] = [within(2 * second), within(second)];
        for (placing, limit) in [(&mut long, 2 * second), (&mut short, second)] {
            assert!(poll(placing).is_pending());
            let rung = tokio::time::timeout(Duration::ZERO, board.sooner.notified()).await;
            assert!(rung.is_ok());
            assert_eq!(board.expire(), Some(now() + limit));
        }
        // Longer than the others: no news.
        let mut longest = within(3 * second);
        drop((poll(&mut longest), longest));
        assert!(tokio::time::timeout(Duration::ZERO, board.sooner.notified()).await.is_err());
        tokio::time::advance(second).await;
        board.expire();
        let Poll::Ready(Err(NoPlace::TimedOut(scarcity))) = poll(&mut short) else { panic!() };
        assert!(matches!(scarcity, Some(Scarcity::Outage(_))));
        assert!(poll(&mut long).is_pending());
        assert_eq!(board.status().waiting, 1);
    }

    /// The channel may see its connection end before it hears that the pool does.
    #[test]
    fn a_pool_that_is_being_closed_wants_no_connection() {
        let board = board(1);
        let mut plan = Plan::new(now(), Reconnect::default(), 1);
        assert_eq!(board.ask_or_depart(0, now(), &mut plan), Wanted::Connection);
        board.close();
        assert_eq!(board.ask_or_depart(0, now(), &mut plan), Wanted::Nothing);
    }

    /// Each of many who come in an outage would wake all of the others.
    #[test]
    fn calls_that_wait_to_be_sent_again_are_told_of_connections_and_not_of_others_who_wait() {
        let (board, memory) = (board(1), Memory { instance: InstanceId([1; 16]), number: 1 });
        let resume = Resume { memory, slot: 0, connection: 1 };
        let _resuming = board.resuming(resume, now() + Duration::from_secs(60));
        let mut rung = std::pin::pin!(board.changed.notified());
        rung.as_mut().enable();
        let mut is_rung = || rung.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        assert!(poll(&mut Placing::new(&board, WISH)).is_pending());
        let _another = board.resuming(resume, now() + Duration::from_secs(60));
        assert!(!is_rung());
        board.opened(0, link(2), 1);
        assert!(is_rung());
    }

    /// How many wakers, of which nobody else has a copy, have been dropped when two calls have begun to wait, when one has
    /// been polled again, when the other has given up, and when the first has its place.
    fn drops() -> [usize; 4] {
        let (board, dropped) = (Arc::new(board(1)), Arc::new(AtomicUsize::new(0)));
        let poll = |placing: &mut Placing<'_>| {
            let waker = Waker::from(Arc::new(Nosy(board.clone(), dropped.clone())));
            Pin::new(placing).poll(&mut Context::from_waker(&waker)).is_ready()
        };
        let [mut one, mut two] = [(); 2].map(|()| Placing::new(&board, WISH));
        let so_far = || dropped.load(Ordering::SeqCst);
        assert!(!poll(&mut one) && !poll(&mut two));
        let waiting = so_far();
        assert!(!poll(&mut one));
        let replaced = so_far();
        drop(two);
        let given_up = so_far();
        board.opened(0, link(1), 1);
        assert!(poll(&mut one));
        [waiting, replaced, given_up, so_far()]
    }

    #[test]
    fn no_waker_is_dropped_under_the_lock() {
        let (done, counts) = std::sync::mpsc::channel();
        // On a thread of its own, which stays behind if it hangs.
        std::thread::spawn(move || done.send(drops()).unwrap());
        let counts = counts.recv_timeout(Duration::from_secs(20)).expect("no deadlock");
        assert_eq!(counts, [0, 1, 2, 4]);
    }
}
