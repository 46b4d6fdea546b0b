//! What callers were told, call by call, and whether that is what the server did.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use steadfast::{Bytes, CallError, Outcome};

/// What one caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Told {
    Answered,
    /// It got an answer to another call.
    Wrong,
    NotRun,
    Unknown,
}

impl Told {
    pub(crate) fn of(body: &Bytes, result: &Result<Bytes, CallError>) -> Self {
        match result {
            Ok(answer) if answer.get(..8) == body.get(..8) => Self::Answered,
            Ok(_) => Self::Wrong,
            Err(error) => match error.outcome() {
                Outcome::NotSent | Outcome::Refused => Self::NotRun,
                Outcome::Indeterminate => Self::Unknown,
                Outcome::Remote => panic!("no server here says so: {error}"),
            },
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Answered => 'a',
            Self::Wrong => 'w',
            Self::NotRun => 'n',
            Self::Unknown => 'u',
        }
    }

    fn from_letter(letter: &str) -> Self {
        let all = [Self::Answered, Self::Wrong, Self::NotRun, Self::Unknown];
        all.into_iter().find(|told| letter.starts_with(told.letter())).expect("one of them")
    }
}

/// All calls of a client, with what it was told and how long it waited beyond its deadline.
#[derive(Debug, Default)]
pub(crate) struct Account {
    calls: HashMap<u64, Told>,
    /// The longest that a caller was left waiting after its deadline.
    late: Duration,
}

impl Account {
    pub(crate) fn enter(&mut self, number: u64, told: Told, late: Duration) {
        assert_eq!(self.calls.insert(number, told), None, "call {number} was settled twice");
        self.late = self.late.max(late);
    }

    pub(crate) fn write(&self, path: impl AsRef<Path>) {
        let mut text = format!("{}\n", self.late.as_millis());
        for (number, told) in &self.calls {
            writeln!(text, "{number} {}", told.letter()).expect("a string takes it");
        }
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let (late, rest) = text.split_once('\n').unwrap();
        let calls = rest.lines().map(|line| {
            let (number, told) = line.split_once(' ').unwrap();
            (number.parse().unwrap(), Told::from_letter(told))
        });
        Self { calls: calls.collect(), late: Duration::from_millis(late.parse().unwrap()) }
    }

    /// Nothing lost, doubled or mixed up: holds it against the numbers of what was executed.
    pub(crate) fn check(&self, executed: &[u64]) {
        let mut times: HashMap<u64, usize> = HashMap::new();
        for number in executed {
            *times.entry(*number).or_default() += 1;
        }
        for (number, told) in &self.calls {
            let times = times.remove(number).unwrap_or(0);
            let right = match told {
                Told::Answered => times == 1,
                Told::Wrong => false,
                Told::NotRun => times == 0,
                Told::Unknown => times <= 1,
            };
            assert!(
                right,
                "call {number} was executed {times} times, its caller was told: {told:?}"
            );
        }
        assert!(times.is_empty(), "executed, and nobody had asked: {times:?}");
        // That much a machine under load may take to wake a caller.
        assert!(self.late < Duration::from_secs(1), "{:?} after the deadline", self.late);
    }

    pub(crate) fn count(&self, wanted: Told) -> usize {
        self.calls.values().filter(|told| **told == wanted).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(calls: &[(u64, Told)]) -> Account {
        Account { calls: calls.iter().copied().collect(), late: Duration::ZERO }
    }

    #[test]
    fn a_true_account_survives_being_written_and_is_found_right() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let calls =
            [(1, Told::Answered), (2, Told::NotRun), (3, Told::Unknown), (4, Told::Unknown)];
        account(&calls).write(file.path());
        let read = Account::read(file.path());
        assert_eq!(read.calls, calls.into_iter().collect());
        read.check(&[1, 4]);
    }

    #[test]
    fn each_lie_is_found() {
        for (told, executed) in [
            (Told::Answered, vec![]),
            (Told::Answered, vec![1, 1]),
            (Told::NotRun, vec![1]),
            (Told::Unknown, vec![1, 1]),
            (Told::Wrong, vec![1]),
            (Told::Answered, vec![1, 2]),
        ] {
            let check = std::panic::catch_unwind(|| account(&[(1, told)]).check(&executed));
            assert!(check.is_err(), "{told:?} {executed:?}");
        }
    }
}
