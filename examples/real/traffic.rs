//! Callers who call one after the other and check each answer, and the account of it.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use steadfast::BoxError;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Whether an answer is the one to this call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Right,
    Wrong,
}

impl Answer {
    pub(crate) fn check<T: PartialEq>(answer: T, expected: T) -> Self {
        if answer == expected { Self::Right } else { Self::Wrong }
    }
}

/// What became of all calls.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) right: u64,
    pub(crate) wrong: u64,
    pub(crate) failed: Vec<BoxError>,
    /// The call that took longest.
    pub(crate) longest: Duration,
    took: Duration,
}

impl Account {
    pub(crate) fn is_clean(&self) -> bool {
        self.wrong == 0 && self.failed.is_empty()
    }

    fn add(&mut self, took: Duration, answer: Result<Answer, impl Into<BoxError>>) {
        self.longest = self.longest.max(took);
        match answer {
            Ok(Answer::Right) => self.right += 1,
            Ok(Answer::Wrong) => self.wrong += 1,
            Err(error) => self.failed.push(error.into()),
        }
    }

    fn join(mut self, other: Self) -> Self {
        self.right += other.right;
        self.wrong += other.wrong;
        self.failed.extend(other.failed);
        self.longest = self.longest.max(other.longest);
        self
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { right, wrong, failed, longest, took } = self;
        let rate = *right as f64 / took.as_secs_f64();
        let failed = failed.len();
        write!(
            f,
            "{right} answers, {rate:.0} a second; {wrong} were another's, {failed} calls failed; "
        )?;
        write!(f, "the longest call took {:.1} ms", longest.as_secs_f64() * 1e3)
    }
}

/// Keeps `callers` calling until `scene` is over. No two calls have the same number.
pub(crate) async fn during<T, F, E>(
    scene: impl Future<Output = T>,
    callers: usize,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) -> (T, Account)
where
    F: Future<Output = Result<Answer, E>> + Send,
    E: Into<BoxError>,
{
    let (over, started) = (CancellationToken::new(), Instant::now());
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (call, over) = (call.clone(), over.clone());
        tasks.spawn(async move {
            let mut account = Account::default();
            for number in (caller..).step_by(callers) {
                let called = Instant::now();
                let answer = call(number).await;
                account.add(called.elapsed(), answer);
                if over.is_cancelled() {
                    break;
                }
            }
            account
        });
    }
    let result = scene.await;
    over.cancel();
    let accounts = tasks.join_all().await;
    let account = accounts.into_iter().fold(Account::default(), Account::join);
    (result, Account { took: started.elapsed(), ..account })
}
