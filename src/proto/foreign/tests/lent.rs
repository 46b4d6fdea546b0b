//! Leases and calls on one connection: what of the one could come to the other.

use super::*;
use crate::proto::foreign::lending::Condition;
use crate::proto::lent::Handback;

impl Desk {
    /// A ping is out, and the connection is lent.
    fn lent_while_pinged(dialect: Plain) -> Self {
        let mut desk = desk(dialect);
        desk.until(EVERY).unwrap();
        assert_eq!(desk.bodies(), ["ping"]);
        desk.foreign.lend().unwrap();
        desk
    }

    /// The next frame of the lease.
    fn taken(&mut self) -> Option<Bytes> {
        match self.foreign.poll_frame(Waker::noop()).0 {
            Poll::Ready(frame) => Some(frame.unwrap()),
            Poll::Pending => None,
        }
    }

    fn send(&mut self, content: &'static str) {
        let spoken = self.speech.plain(content.into()).unwrap();
        self.foreign.send(&spoken).unwrap();
    }

    /// What the owner does outside of the lock.
    fn read(&mut self, bytes: &[u8]) {
        self.input.bytes.extend_from_slice(bytes);
        self.speech.read(&mut self.input);
    }

    /// What it does with the lock.
    fn tell(&mut self) -> Result<(), LossCause> {
        self.foreign.received(self.now(), &mut self.input, &mut self.effects)
    }
}

/// A ping is answered like a call, and so in any way in which a call can be answered.
#[test]
fn whatever_answers_a_ping_that_is_out_when_the_connection_is_lent_is_not_the_leases() {
    let id = [3, 232];
    for answers in [&["r"][..], &["e"], &["x"], &["p", "r"], &["p", "p", "x"]] {
        for matching in [IN_ORDER, BY_ID] {
            let mut desk = Desk::lent_while_pinged(pinging(matching));
            desk.send("question");
            for kind in answers {
                let mut content = kind.as_bytes().to_vec();
                content.extend(id.iter().filter(|_| matching == BY_ID));
                desk.hear_bytes(&frame(&content)).unwrap();
            }
            assert_eq!(desk.taken(), None, "{answers:?} {matching:?}");
            assert!(!desk.foreign.owed.is_pinged(), "{answers:?} {matching:?}");
            assert_eq!(desk.write(usize::MAX), frame(b"question"));
            desk.hear(&["r answer"]).unwrap();
            assert_eq!(desk.taken().unwrap(), "r answer");
        }
    }
}

/// The owner takes bytes apart before it has the lock: the connection can be another's by then.
#[test]
fn the_beginning_of_a_frame_that_was_read_under_a_lease_is_no_calls_answer() {
    for begun in [&b"\0"[..], b"\0\x03r"] {
        let mut desk = desk(silent(IN_ORDER));
        desk.foreign.lend().unwrap();
        desk.read(begun);
        assert_eq!(desk.foreign.end(Handback::Dropped).0, Condition::Clean);
        let name = desk.call("question");
        assert_eq!(desk.tell(), Err(Violation::Unasked.into()), "{begun:?}");
        assert!(desk.sent().is_empty());
        desk.lose();
        assert!(matches!(desk.answer(name), Some(Answer::Lost { sent: false, .. })));
    }
}

#[test]
fn nothing_goes_out_behind_a_violation() {
    let mut desk = desk(silent(IN_ORDER));
    desk.foreign.lend().unwrap();
    desk.read(&frame(b"unasked"));
    assert_eq!(desk.foreign.end(Handback::Dropped).0, Condition::Clean);
    desk.foreign.lend().unwrap();
    assert_eq!(desk.tell(), Err(Violation::Unasked.into()));
    // Its loss is not known yet.
    desk.send("question");
    assert_eq!(desk.write(usize::MAX), b""[..]);
    desk.lose();
    assert_eq!(desk.foreign.progress().sent, 0);
}

/// It was read before the connection was lent, and told after.
#[test]
fn a_dialect_does_not_see_the_frames_of_a_lease() {
    let mut desk = desk(pinging(IN_ORDER));
    desk.until(EVERY).unwrap();
    assert_eq!(desk.bodies(), ["ping"]);
    desk.read(&frame(b"r"));
    desk.foreign.lend().unwrap();
    desk.tell().unwrap();
    desk.send("question");
    assert_eq!(desk.write(usize::MAX), frame(b"question"));
    // It would panic.
    desk.hear(&["#"]).unwrap();
    assert_eq!(desk.taken().unwrap(), "#");
}
