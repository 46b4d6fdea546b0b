//! The server is killed with SIGKILL under its callers, and started again, time after time.

use std::future::Future;
use std::io;
use std::time::Duration;

use steadfast::BoxError;
use tokio::time::sleep;

use super::daemon::Daemon;
use super::traffic::{self, Account, Answer};

const KILLS: usize = 5;
const CALLERS: usize = 16;
/// Longer than a connection needs to count as stable.
const UP: Duration = Duration::from_millis(1500);
const DOWN: Duration = Duration::from_millis(300);

/// Prints what became of the calls, and each one that failed.
pub(crate) async fn survive<F, E>(
    server: &mut Daemon,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) -> Result<Account, BoxError>
where
    F: Future<Output = Result<Answer, E>> + Send,
    E: Into<BoxError>,
{
    let (killed, account) = traffic::during(kill(server), CALLERS, call).await;
    killed?;
    println!("{CALLERS} callers, {KILLS} kills: {account}");
    account.failed.iter().for_each(|error| println!("{error}"));
    Ok(account)
}

async fn kill(server: &mut Daemon) -> io::Result<()> {
    for _ in 0..KILLS {
        sleep(UP).await;
        println!("kill -9 {}", server.id());
        server.kill()?;
        sleep(DOWN).await;
        server.restart().await?;
    }
    sleep(UP).await;
    Ok(())
}
