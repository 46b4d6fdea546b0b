//! unbound is killed with SIGKILL in mid-traffic, and started again on the same port.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;

use crate::resolver::Resolver;
use crate::{lives, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_10_times_under_16_callers_none_fails_and_none_gets_anothers_answer() {
    let Some(mut server) = server::start("").await else { return };
    let pool = lives::pool(crate::builder(&server));
    let (resolver, answers) = (Resolver::new(pool.clone()), Arc::new(AtomicUsize::new(0)));
    let counted = answers.clone();
    let call = move |number| {
        let counted = counted.clone();
        crate::lookup(resolver.clone(), number)
            .inspect(move |_| _ = counted.fetch_add(1, Ordering::Relaxed))
    };
    let daemon = &mut server.daemon;
    lives::no_call_fails_and_none_gets_anothers_answer(pool, daemon, &answers, call).await;
}
