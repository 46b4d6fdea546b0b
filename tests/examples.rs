//! The examples as their users run them: real processes, real signals, real files.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use support::program::{
    Program, connections, count, echo_server, load, unique_lines, wait_for_more, with_outcome,
};

/// A server is away for longer than this.
const GAP: Duration = Duration::from_millis(150);

#[test]
fn every_successful_call_was_executed_once_and_the_account_is_complete() {
    let files = tempfile::tempdir().unwrap();
    let (executed, outcomes) = (files.path().join("executed"), files.path().join("outcomes"));
    let (_server, address) = echo_server("127.0.0.1:0", &executed, &[]);

    let mut load = load(&address, &["--seconds", "1"], &outcomes);
    let (status, report) = load.report();

    assert!(status.success(), "{status}");
    let keys = "calls ok not_sent refused indeterminate remote mismatched connects losses \
                instance_changes longest_gap_ms p50_us p99_us p999_us calls_per_s";
    let keys: HashSet<_> = keys.split_whitespace().collect();
    assert_eq!(
        report.as_object().unwrap().keys().map(String::as_str).collect::<HashSet<_>>(),
        keys
    );
    assert!(count(&report, "ok") > 100, "{report}");
    assert_eq!(count(&report, "ok"), count(&report, "calls"), "{report}");
    assert_eq!(connections(&report), [1, 0, 0], "{report}");
    let executed = unique_lines(&executed);
    assert_eq!(executed.len() as u64, count(&report, "ok"));
    assert_eq!(executed, with_outcome(&outcomes, &["ok"]));
}

#[test]
fn a_drained_server_that_is_started_again_costs_no_call_and_runs_none_twice() {
    let files = tempfile::tempdir().unwrap();
    let executed = files.path().join("executed");
    let outcomes = ["idempotent", "other"].map(|name| files.path().join(name));
    // A delay, so that calls are in flight when the signal comes.
    let (mut server, address) = echo_server("127.0.0.1:0", &executed, &["--delay-ms", "5"]);
    let mut loads = [
        load(&address, &["--seconds", "300", "--idempotent"], &outcomes[0]),
        load(&address, &["--seconds", "300"], &outcomes[1]),
    ];
    outcomes.iter().for_each(|journal| wait_for_more(journal, 100));

    server.signal("TERM");
    assert!(server.ended().success());
    let (_server, _) = echo_server(&address, &executed, &[]);
    outcomes.iter().for_each(|journal| wait_for_more(journal, 100));

    let mut ok = 0;
    for load in &mut loads {
        load.signal("INT");
        let (status, report) = load.report();
        assert!(status.success(), "{status}");
        assert_eq!(count(&report, "ok"), count(&report, "calls"), "{report}");
        assert_eq!(connections(&report), [2, 0, 1], "{report}\n{}", load.told());
        ok += count(&report, "ok");
    }
    assert_eq!(unique_lines(&executed).len() as u64, ok);
}

#[test]
fn after_sigkill_the_journals_of_both_sides_agree() {
    let files = tempfile::tempdir().unwrap();
    let (executed, outcomes) = (files.path().join("executed"), files.path().join("outcomes"));
    let (mut server, address) = echo_server("127.0.0.1:0", &executed, &["--delay-ms", "5"]);
    let mut load = load(&address, &["--seconds", "300", "--fail-fast"], &outcomes);
    wait_for_more(&executed, 100);

    server.signal("KILL");
    server.ended();
    // So long the gap is to be, or longer.
    std::thread::sleep(GAP);
    wait_for_more(&outcomes, 100);
    load.signal("INT");
    let (status, report) = load.report();

    assert!(status.success(), "{status}");
    assert_eq!(connections(&report), [1, 1, 0], "{report}");
    assert!(count(&report, "not_sent") > 0, "{report}");
    assert!(u128::from(count(&report, "longest_gap_ms")) >= GAP.as_millis(), "{report}");
    let latencies = ["p50_us", "p99_us", "p999_us"].map(|key| count(&report, key));
    assert!(latencies[0] >= 5000 && latencies.is_sorted(), "{report}");
    let executed = unique_lines(&executed);
    let ok = with_outcome(&outcomes, &["ok"]);
    assert_eq!(ok.len() as u64, count(&report, "ok"));
    assert!(ok.is_subset(&executed), "answered, and not in the journal");
    let not_run = with_outcome(&outcomes, &["not_sent", "refused"]);
    assert!(not_run.is_disjoint(&executed), "said not to have run, and in the journal");
}

#[test]
fn the_story_of_the_restarted_server_ends_well() {
    // The naive client's operator has time to do his work, on a busy machine, too.
    let rounds = ["--kills", "2", "--traffic-ms", "3000", "--json"];
    let mut story = Program::start("restart", rounds);
    let (status, table) = story.report();
    let told = story.told();

    assert_eq!(status.code(), Some(0), "{table}\n{told}");
    assert_eq!(count(&table, "kills"), 2);
    let (naive, steadfast) = (&table["naive"], &table["steadfast"]);
    assert!(count(steadfast, "ok") > 1000, "{table}");
    assert_eq!(count(steadfast, "ok"), count(steadfast, "calls"), "{table}");
    assert_eq!(count(steadfast, "failed") + count(steadfast, "mixed_up"), 0, "{table}");
    // In each round the call in hand and twenty resends.
    assert!(count(naive, "ok") > 0 && count(naive, "failed") >= 42, "{table}");
    let gap = |client: &Value| client["gap_ms_median"].as_f64().unwrap();
    assert!(gap(steadfast) < gap(naive), "{table}");
    for line in ["lost: ", "dials again", "instance changed: ", "back after "] {
        assert_eq!(told.matches(line).count(), 2, "{line:?} in\n{told}");
    }
}

#[test]
fn an_upload_of_100_mb_arrives_whole_though_the_server_is_killed_twice_on_the_way() {
    let mut story = Program::start("upload", ["--json"]);
    let (status, report) = story.report();
    let told = story.told();

    assert_eq!(status.code(), Some(0), "{report}\n{told}");
    assert_eq!((count(&report, "bytes"), count(&report, "kills")), (100_000_000, 2), "{told}");
    assert!(report["whole"].as_bool().unwrap(), "{report}");
    assert_eq!(report["sha256_here"], report["sha256_there"]);
    // It went on, and did not begin again: of each window some was under way.
    assert!(count(&report, "resumed") >= 2, "{report}\n{told}");
    assert!(count(&report, "sent_again") < 2_000_000, "{report}\n{told}");
    assert_eq!(told.matches("goes on there").count() as u64, count(&report, "resumed"), "{told}");
}

#[test]
fn an_early_reply_is_delivered_although_the_upload_was_reset() {
    let mut story = Program::start("early_reply", ["--json"]);
    let (status, report) = story.report();

    assert_eq!(status.code(), Some(0), "{report}");
    let (naive, steadfast) = (&report["naive"], &report["steadfast"]);
    for client in [naive, steadfast] {
        assert_eq!((count(client, "uploads"), count(client, "cut_off")), (20, 20), "{report}");
    }
    assert_eq!((count(naive, "answers"), count(steadfast, "answers")), (0, 20), "{report}");
    let answer = r#"error 403: "store ../secret" leads out of the folder"#;
    assert_eq!(steadfast["last_answer"], answer);
}

#[test]
fn each_way_for_a_connection_to_end_has_its_cause() {
    let mut show = Program::start("reset_or_abort", ["--json"]);
    let (status, ways) = show.report();

    assert_eq!(status.code(), Some(0), "{ways:#}");
    let seen = ways.as_array().unwrap().iter().map(|way| {
        let text = |key: &str| way[key].as_str().unwrap().to_owned();
        (text("name"), text("cause"), way["fin_seen"].as_bool().unwrap())
    });
    let expected = [
        ("close", "closed by the peer", true),
        ("kill", "closed by the peer", true),
        ("half", "closed by the peer", true),
        ("kill_unread", "ECONNRESET", false),
        ("unread", "ECONNRESET", false),
        ("linger", "ECONNRESET", false),
        ("half_close", "closed by the peer", true),
        ("freeze", "silent", false),
        ("deaf", "stalled", false),
        ("deaf_to_the_kernel", "ETIMEDOUT", false),
        ("mute", "unanswered", false),
        ("garbage", "violation", false),
    ];
    let expected = expected.map(|(name, cause, fin)| (name.to_owned(), cause.to_owned(), fin));
    assert_eq!(seen.collect::<Vec<_>>(), expected, "{ways:#}");
    for way in ways.as_array().unwrap() {
        let reset = way["cause"] == "ECONNRESET";
        assert_eq!(way["line"].as_str().unwrap().contains("WSAECONNRESET 10054"), reset, "{way}");
        // A sandbox may forbid to ask.
        if way["tcp_after"].is_string() && reset {
            assert_eq!([&way["tcp_before"], &way["tcp_after"]], ["ESTABLISHED", "CLOSE"], "{way}");
        }
    }
}
