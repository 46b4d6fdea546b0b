//! What a server process wrote down before it answered, compared with what the callers' process says became of its calls:
//! while the server is killed, cut off, and replaced.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use steadfast::Outcome;

use support::loopback::own_loopback;
use support::program::{
    Program, count, echo_server, load, unique_lines, wait_for_lines, wait_for_more,
};
use support::proxy::{Cut, Proxy};
use support::seed;
use support::truth::Told;
use support::waits::until;

const KILLS: usize = 50;
const CUTS: usize = 200;

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Cut,
}

/// What the two journals say of each call: how often it ran, and its outcome.
type Account = BTreeMap<String, (u32, String)>;

fn account(executed: &Path, outcomes: &Path) -> Account {
    let mut runs = HashMap::<String, u32>::new();
    for id in std::fs::read_to_string(executed).unwrap().lines() {
        *runs.entry(id.to_owned()).or_default() += 1;
    }
    let settled = unique_lines(outcomes);
    let account: Account = settled
        .iter()
        .map(|line| {
            let (id, outcome) = line.split_once(' ').unwrap();
            (id.to_owned(), (runs.remove(id).unwrap_or_default(), outcome.to_owned()))
        })
        .collect();
    assert!(runs.is_empty(), "executed, and nobody's calls: {runs:?}");
    account
}

/// What a caller was told, by the word that stands for it in the journal.
fn told(word: &str) -> Told {
    let all = [Outcome::NotSent, Outcome::Refused, Outcome::Indeterminate, Outcome::Remote];
    let outcome = all.into_iter().find(|outcome| outcome.as_str() == word);
    outcome.map_or_else(|| if word == "ok" { Told::Ran } else { panic!("{word}") }, Told::by)
}

fn with(account: &Account, outcome: &str) -> usize {
    account.values().filter(|(_, said)| said == outcome).count()
}

fn faults(rng: &mut Rng) -> Vec<Fault> {
    let mut faults = [vec![Fault::Kill; KILLS], vec![Fault::Cut; CUTS]].concat();
    rng.shuffle(&mut faults);
    faults
}

async fn pause(rng: &mut Rng, most: u64) {
    tokio::time::sleep(Duration::from_millis(rng.u64(..most))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kills_and_cuts_the_journals_agree_with_the_outcomes_call_by_call() {
    let mut rng = Rng::with_seed(seed::any());
    let files = tempfile::tempdir().unwrap();
    let (executed, outcomes) = (files.path().join("executed"), files.path().join("outcomes"));
    let serve = |listen: &str| echo_server(listen, &executed, &["--delay-ms", "2"]);
    let (mut server, address) = serve(&format!("{}:0", own_loopback()));
    let proxy = Proxy::to(address.parse().unwrap()).await;
    // Some wait for a connection, others do not.
    let mut loads = ["--callers 24 --connections 4", "--callers 4 --fail-fast"].map(|some| {
        let all = "--seconds 300 --payload 200 --heartbeat-ms 100 --backoff-ms 50";
        let settings: Vec<_> = some.split(' ').chain(all.split(' ')).collect();
        load(&proxy.address(), &settings, &outcomes)
    });
    wait_for_lines(&executed, 100);

    let mut kills = 0;
    for fault in faults(&mut rng) {
        pause(&mut rng, 80).await;
        match fault {
            Fault::Cut => {
                let bytes = [100, 1000, 10_000][rng.usize(..3)];
                drop(proxy.cut_any(Cut::any(&mut rng, bytes)));
                until("a cut", || !proxy.is_armed()).await;
            }
            Fault::Kill => {
                server.signal("KILL");
                assert!(!server.ended().success());
                kills += 1;
                pause(&mut rng, 40).await;
                (server, _) = serve(&address);
            }
        }
    }
    let reports = loads.each_mut().map(|load| {
        load.signal("INT");
        let (status, report) = load.report();
        assert!(status.success(), "{status}: {report}");
        report
    });
    server.signal("TERM");
    server.ended();

    let account = account(&executed, &outcomes);
    let false_ones: Vec<_> =
        account.iter().filter(|(_, (runs, said))| !told(said).is_true(*runs, 1)).collect();
    assert!(false_ones.is_empty(), "{false_ones:?}");
    let sum = |key| reports.iter().map(|report| count(report, key) as usize).sum::<usize>();
    assert_eq!(account.len(), sum("calls"));
    // The faults were real, and hurt.
    assert_eq!((kills, proxy.cuts()), (KILLS, CUTS));
    assert!(sum("losses") > CUTS && sum("instance_changes") > KILLS, "{reports:?}");
    for (outcome, least) in [("ok", 5000), ("indeterminate", KILLS), ("not_sent", KILLS)] {
        assert!(with(&account, outcome) > least, "{outcome}: {reports:?}");
    }
}

/// The new process, once it gets the port.
fn successor(address: &str, executed: &Path, settings: &[&str]) -> Program {
    for _ in 0..1000 {
        let journal = executed.to_str().unwrap();
        let arguments = [&["--listen", address, "--journal", journal], settings].concat();
        let mut server = Program::start("echo_server", arguments);
        if server.listening().is_some() {
            return server;
        }
    }
    panic!("the port is never free");
}

#[test]
fn a_process_that_hands_its_port_over_costs_no_call_and_runs_none_twice() {
    const ROUNDS: u64 = 12;
    let files = tempfile::tempdir().unwrap();
    let (executed, outcomes) = (files.path().join("executed"), files.path().join("outcomes"));
    // In turns so slow that the old process is at work when the new one is there, and so fast that calls cross the
    // goodbye.
    let settings = [["--delay-ms", "300"], ["--delay-ms", "2"]];
    let listen = format!("{}:0", own_loopback());
    let (mut server, address) = echo_server(&listen, &executed, &settings[0]);
    let callers = ["--seconds", "300", "--connections", "4", "--callers", "300"];
    let mut load = load(&address, &callers, &outcomes);
    wait_for_lines(&outcomes, 1);

    let mut overlaps = 0;
    for round in 1..=ROUNDS {
        server.signal("TERM");
        let next = successor(&address, &executed, &settings[round as usize % 2]);
        let mut old = std::mem::replace(&mut server, next);
        overlaps += u64::from(old.is_running());
        assert!(old.ended().success());
        wait_for_more(&outcomes, 600);
    }
    load.signal("INT");
    let (status, report) = load.report();
    server.signal("TERM");
    assert!(server.ended().success());

    assert!(status.success(), "{status}: {report}");
    let account = account(&executed, &outcomes);
    let failed: Vec<_> = account.iter().filter(|(_, (_, said))| said != "ok").collect();
    assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), account.len());
    assert!(account.values().all(|(runs, _)| *runs == 1));
    assert_eq!(count(&report, "ok"), account.len() as u64, "{report}");
    assert!(count(&report, "instance_changes") >= ROUNDS, "{report}");
    assert!(overlaps > 0, "no old process was still at work");
}
