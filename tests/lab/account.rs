//! What callers were told, call by call, and whether that is what the server did.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use steadfast::{Bytes, CallError, Outcome};

use crate::support::truth::Told;

/// How what callers were told is written down.
const LETTERS: [(Option<Told>, &str); 4] =
    [(Some(Told::Ran), "a"), (Some(Told::NotRun), "n"), (Some(Told::Unknown), "u"), (None, "w")];

/// What the caller of this body was told: nothing, if it got an answer to another call.
pub(crate) fn told(body: &Bytes, result: &Result<Bytes, CallError>) -> Option<Told> {
    match result {
        Ok(answer) if answer.get(..8) != body.get(..8) => None,
        Err(error) if error.outcome() == Outcome::Remote => {
            panic!("no server here says so: {error}")
        }
        result => Some(Told::of(result)),
    }
}

/// All calls of a client, with what it was told and how long it waited beyond its deadline.
#[derive(Debug, Default)]
pub(crate) struct Account {
    calls: HashMap<u64, Option<Told>>,
    /// The longest that a caller was left waiting after its deadline.
    late: Duration,
}

impl Account {
    pub(crate) fn enter(&mut self, number: u64, told: Option<Told>, late: Duration) {
        assert_eq!(self.calls.insert(number, told), None, "call {number} was settled twice");
        self.late = self.late.max(late);
    }

    pub(crate) fn write(&self, path: impl AsRef<Path>) {
        let mut text = format!("{}\n", self.late.as_millis());
        for (number, told) in &self.calls {
            let (_, letter) = LETTERS.iter().find(|(it, _)| it == told).expect("one of them");
            writeln!(text, "{number} {letter}").expect("a string takes it");
        }
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let (late, rest) = text.split_once('\n').unwrap();
        let calls = rest.lines().map(|line| {
            let (number, letter) = line.split_once(' ').unwrap();
            let (told, _) = LETTERS.iter().find(|(_, it)| *it == letter).expect("one of them");
            (number.parse().unwrap(), *told)
        });
        Self { calls: calls.collect(), late: Duration::from_millis(late.parse().unwrap()) }
    }

    /// Nothing lost, doubled or mixed up: holds it against the numbers of what was executed.
    pub(crate) fn check(&self, executed: &[u64]) {
        let mut times: HashMap<u64, u32> = HashMap::new();
        for number in executed {
            *times.entry(*number).or_default() += 1;
        }
        for (number, told) in &self.calls {
            let times = times.remove(number).unwrap_or(0);
            let right = told.is_some_and(|told| told.is_true(times, 1));
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
        self.calls.values().filter(|told| **told == Some(wanted)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(calls: &[(u64, Option<Told>)]) -> Account {
        Account { calls: calls.iter().copied().collect(), late: Duration::ZERO }
    }

    #[test]
    fn a_true_account_survives_being_written_and_is_found_right() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let told = [Told::Ran, Told::NotRun, Told::Unknown, Told::Unknown];
        let calls = [1, 2, 3, 4].map(|number| (number, Some(told[number as usize - 1])));
        account(&calls).write(file.path());
        let read = Account::read(file.path());
        assert_eq!(read.calls, calls.into_iter().collect());
        read.check(&[1, 4]);
    }

    #[test]
    fn each_lie_is_found() {
        for (told, executed) in [
            (Some(Told::Ran), vec![]),
            (Some(Told::Ran), vec![1, 1]),
            (Some(Told::NotRun), vec![1]),
            (Some(Told::Unknown), vec![1, 1]),
            (None, vec![1]),
            (Some(Told::Ran), vec![1, 2]),
        ] {
            let check = std::panic::catch_unwind(|| account(&[(1, told)]).check(&executed));
            assert!(check.is_err(), "{told:?} {executed:?}");
        }
    }
}
