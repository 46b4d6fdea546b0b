//! `docs/faults.md`: what the library promises to say, and within which time. The page itself is what the tests hold the
//! library to, so it cannot say anything else than the library does.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

const PAGE: &str = include_str!("../../docs/faults.md");

/// A row of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    number: &'static str,
    /// Each of them is right, for instance where either side of a race may win.
    says: Vec<&'static str>,
    /// None: there is nothing to notice.
    within: Option<Duration>,
}

/// All of them, in the page's order.
pub(crate) fn rows() -> impl Iterator<Item = Row> {
    PAGE.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let [number, _fault, says, _outcome, within, _measured, ""] = cells[..] else { return None };
        if number == "row" || number.starts_with('-') {
            return None;
        }
        let says = says.split('`').skip(1).step_by(2).collect();
        Some(Row { number, says, within: milliseconds(within) })
    })
}

pub(crate) fn row(number: &str) -> Row {
    rows().find(|row| row.number == number).unwrap_or_else(|| panic!("the page has no row {number}"))
}

fn milliseconds(cell: &str) -> Option<Duration> {
    let number = cell.strip_suffix(" ms")?.replace(',', "");
    Some(Duration::from_millis(number.parse().unwrap_or_else(|_| panic!("{cell} is no time"))))
}

impl Row {
    /// How the line begins that tells of it: `lost: `, `failed: `, `call: `.
    pub(crate) fn beginning(&self) -> &'static str {
        let first = self.says.first().unwrap_or_else(|| panic!("row {}: nothing is said", self.number));
        let end = first.find(' ').expect("a kind and what it says");
        &first[..=end]
    }

    /// What the library says of the fault, and how long after it.
    pub(crate) fn told(&self, what: &str, took: Duration) {
        let Self { number, says, within } = self;
        assert!(says.contains(&what), "row {number}: it says {what:?}, the page {says:?}");
        let within = within.unwrap_or_else(|| panic!("row {number}: the page names no time"));
        assert!(took <= within, "row {number}: after {took:?}, the page promises {within:?}");
        record(&format!("{number} | {} ms", took.as_millis().max(1)));
    }

    /// The fault is survived, and nothing is to be said.
    pub(crate) fn survived(&self) {
        let Self { number, says, within } = self;
        assert_eq!((says.len(), within), (0, &None), "row {number}");
        record(&format!("{number} | -"));
    }
}

/// Printed, and appended to the file that `STEADFAST_MEASURED` names, which `.ci/faults` compares with the page.
fn record(line: &str) {
    println!("row {line}");
    if let Some(path) = std::env::var_os("STEADFAST_MEASURED") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

#[test]
fn the_page_can_be_read_and_names_no_row_twice() {
    let mut numbers: Vec<_> = rows().map(|row| row.number).collect();
    assert!(numbers.len() >= 10, "{numbers:?}");
    numbers.sort_unstable();
    let all = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), all);
}
