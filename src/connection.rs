//! The handle by which callers and handlers reach a connection's session. Its socket's owner is in
//! [`driver`](crate::driver).
//!
//! One short lock: callers add their bytes and their place, the owner writes everything that gathered.

use std::sync::{Arc, PoisonError};
#[cfg(not(steadfast_loom))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Waker};

use bytes::BytesMut;
#[cfg(steadfast_loom)]
use loom::sync::{Mutex, MutexGuard};

use crate::proto::calling::Calling;
use crate::proto::session::Session;
use crate::proto::speech::Speech;
use crate::transport::Transport;

/// The handle to a connection's session. Cheap to clone.
pub(crate) struct Connection<S: ?Sized>(Arc<Mutex<Core<S>>>);

impl<S: ?Sized> Clone for Connection<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Core<S: ?Sized> {
    /// The owner, when it sleeps.
    owner: Option<Waker>,
    /// What the owner has left for whoever takes the socket over.
    parcel: Option<Parcel>,
    session: S,
}

/// A socket without its owner.
pub(crate) struct Parcel {
    pub(crate) transport: Box<dyn Transport>,
    /// What has arrived and was not taken apart.
    pub(crate) bytes: BytesMut,
}

/// Whether the owner of the socket has something to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    Owner,
    Nobody,
}

/// What the owner does after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It sleeps, when it has nothing else to do: it is to be woken.
    Sleep,
    /// It has another turn soon, and until then everybody can add to what it will find.
    ComeBack,
}

impl<S> Connection<S> {
    pub(crate) fn new(session: S) -> Self {
        Self(Arc::new(Mutex::new(Core { owner: None, parcel: None, session })))
    }
}

impl<S: Calling> Connection<S> {
    /// The same connection, for those who do not care which protocol it speaks.
    pub(crate) fn erased(&self) -> Connection<dyn Calling> {
        Connection(self.0.clone())
    }
}

impl<S: ?Sized> Connection<S> {
    /// Who makes sense of what arrives, where that is not the session itself.
    pub(crate) fn reader(&self) -> Option<Arc<Speech>>
    where
        S: Session,
    {
        self.lock().session.reader()
    }

    /// The owner leaves the socket to somebody else, if that is still there; otherwise closes it.
    pub(crate) fn leave_parcel(&self, parcel: Parcel)
    where
        S: Session,
    {
        let mut core = self.lock();
        let unwanted = match core.session.is_leaving() {
            true => core.parcel.replace(parcel),
            false => Some(parcel),
        };
        drop(core);
        drop(unwanted);
    }

    pub(crate) fn take_parcel(&self) -> Option<Parcel> {
        self.lock().parcel.take()
    }

    /// One short turn with the session.
    pub(crate) fn with<R>(&self, turn: impl FnOnce(&mut S) -> (R, Tell)) -> R {
        let mut core = self.lock();
        let (result, tell) = turn(&mut core.session);
        let owner = if tell == Tell::Owner { core.owner.take() } else { None };
        drop(core);
        if let Some(owner) = owner {
            owner.wake();
        }
        result
    }

    /// The owner's turn with the session: it does what there is to do before it sleeps, and will be woken when there
    /// is more, unless it comes back by itself.
    pub(crate) fn turn<R>(&self, cx: &Context<'_>, turn: impl FnOnce(&mut S) -> (R, Then)) -> R {
        let mut core = self.lock();
        let (result, then) = turn(&mut core.session);
        let before = match (then, &core.owner) {
            (Then::Sleep, Some(owner)) if owner.will_wake(cx.waker()) => None,
            (Then::Sleep, _) => core.owner.replace(cx.waker().clone()),
            (Then::ComeBack, _) => core.owner.take(),
        };
        drop(core);
        drop(before);
        result
    }

    /// A panic under the lock is a bug of ours that must not spread to every other caller.
    fn lock(&self) -> MutexGuard<'_, Core<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: ?Sized> std::fmt::Debug for Connection<S> {
    /// Not the session: it holds other people's bodies.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often two who have something for the owner wake it, after a turn that ended so.
    fn wake_ups(then: Then) -> usize {
        let (connection, woken) = (Connection::new(()), Arc::new(Woken::default()));
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        connection.turn(&cx, |()| ((), Then::Sleep));
        connection.turn(&cx, |()| ((), then));
        for _ in 0..2 {
            connection.with(|()| ((), Tell::Owner));
        }
        woken.0.load(Ordering::Relaxed)
    }

    #[test]
    fn an_owner_that_sleeps_is_woken_once_and_one_that_comes_back_by_itself_is_left_to_gather() {
        assert_eq!(wake_ups(Then::Sleep), 1);
        assert_eq!(wake_ups(Then::ComeBack), 0);
    }
}

/// Every interleaving, with loom: `.ci/models`.
#[cfg(all(test, steadfast_loom))]
mod models {
    use std::future::poll_fn;
    use std::task::Poll;

    use loom::future::block_on;
    use loom::thread;

    use super::*;

    /// Two callers add something; the owner ends when it has found both.
    fn owner_finds_both(first: Then) {
        loom::model(move || {
            let connection = Connection::new(0);
            let callers = [(); 2].map(|()| {
                let connection = connection.clone();
                thread::spawn(move || {
                    connection.with(|added| {
                        *added += 1;
                        ((), Tell::Owner)
                    });
                })
            });
            let (mut found, mut then) = (0, first);
            block_on(poll_fn(|cx| {
                let this = std::mem::replace(&mut then, Then::Sleep);
                found += connection.turn(cx, |added| (std::mem::take(added), this));
                if this == Then::ComeBack {
                    cx.waker().wake_by_ref();
                }
                if found == 2 { Poll::Ready(()) } else { Poll::Pending }
            }));
            callers.into_iter().for_each(|caller| caller.join().unwrap());
        });
    }

    /// Loom finds the interleaving, if there is one, in which the owner sleeps for ever.
    #[test]
    fn model_what_callers_add_is_found_by_an_owner_that_sleeps() {
        owner_finds_both(Then::Sleep);
    }

    #[test]
    fn model_what_callers_add_is_found_by_an_owner_that_gathers() {
        owner_finds_both(Then::ComeBack);
    }
}
