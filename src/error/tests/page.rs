//! `docs/when-connections-die.md` leads from what one sees to an explanation.

use super::chains::{calls, connects, foreign_violations, leases, losses};
use super::*;

const PAGE: &str = include_str!("../../../docs/when-connections-die.md");

/// What the first table has between backticks in its first column.
fn seen() -> Vec<&'static str> {
    let rows = PAGE.lines().skip_while(|line| !line.starts_with("| you see")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn every_cause_is_found_in_the_table_by_its_words() {
    let losses = losses().into_iter().map(|(cause, _)| cause.to_string());
    // Not only by the words that are common to all of them.
    let violations = foreign_violations().map(|violation| violation.to_string());
    let connects = connects().into_iter().map(|(cause, _)| match cause {
        ConnectCause::Hook(_) => connect(Phase::Hook, cause).to_string(),
        cause => cause.to_string(),
    });
    let timed_out = [Stage::Connection, Stage::Sending, Stage::Reply].map(|stage| {
        let full = Scarcity::Full(Full { in_flight: 64, connections: 4 });
        let scarcity = matches!(stage, Stage::Connection).then_some(full);
        CallCause::TimedOut { limit: ms(500), stage, scarcity }.to_string()
    });
    let calls = calls().into_iter().map(|cause| cause.to_string());
    let leases = leases().map(|cause| cause.to_string());
    let here = timed_out.into_iter().chain(calls).chain(leases);
    let seen = seen();
    for line in losses.into_iter().chain(violations).chain(connects).chain(here) {
        assert!(seen.iter().any(|text| line.contains(text)), "no row leads from {line:?}");
    }
}

#[test]
fn every_text_of_the_table_is_one_that_is_told() {
    let sources = [
        include_str!("../answer.rs"),
        include_str!("../call.rs"),
        include_str!("../config.rs"),
        include_str!("../connect.rs"),
        include_str!("../lease.rs"),
        include_str!("../loss.rs"),
        include_str!("../outage.rs"),
        include_str!("../os/known.rs"),
        include_str!("../violation.rs"),
    ];
    // Where a placeholder is filled in.
    let filled = ["no reply within", "sending it did not end within", "failed:"];
    for text in seen().into_iter().filter(|text| !filled.contains(text)) {
        assert!(sources.iter().any(|source| source.contains(text)), "nobody says {text:?}");
    }
}

#[test]
fn every_link_within_the_page_leads_to_a_section() {
    let anchor = |title: &str| -> String {
        let kept = title.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    let titles = PAGE.lines().filter(|line| line.starts_with("##"));
    let anchors: Vec<_> = titles.map(|line| anchor(line.trim_start_matches(['#', ' ']))).collect();
    for link in PAGE.split("](#").skip(1) {
        let link = link.split(')').next().unwrap_or_default().to_owned();
        assert!(anchors.contains(&link), "{link} is nowhere");
    }
}
