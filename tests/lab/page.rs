//! `docs/faults.md`: what the library promises to say, and within which time. The page itself is what the tests hold the
//! library to, but for what becomes of calls: that is the journals' business.

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

/// The library said the right thing after more than the promised time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Late {
    number: &'static str,
    took: Duration,
    within: Duration,
}

/// Makes the fault again if the library was late: the bound is its own, the delays of a busy machine are not. Three times
/// late is too late.
pub(crate) async fn thrice(fault: impl AsyncFn() -> Result<(), Late>) {
    let mut late = Vec::new();
    while let Err(again) = fault().await {
        late.push(again);
        assert!(late.len() < 3, "thrice: {late:?}");
    }
}

/// All of them, in the page's order.
pub(crate) fn rows() -> impl Iterator<Item = Row> {
    PAGE.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let [number, _fault, says, _outcome, within, _measured, ""] = cells[..] else {
            return None;
        };
        if number == "row" || number.starts_with('-') {
            return None;
        }
        let says = says.split('`').skip(1).step_by(2).collect();
        Some(Row { number, says, within: milliseconds(within) })
    })
}

pub(crate) fn row(number: &str) -> Row {
    rows()
        .find(|row| row.number == number)
        .unwrap_or_else(|| panic!("the page has no row {number}"))
}

fn milliseconds(cell: &str) -> Option<Duration> {
    let number = cell.strip_suffix(" ms")?.replace(',', "");
    Some(Duration::from_millis(number.parse().unwrap_or_else(|_| panic!("{cell} is no time"))))
}

impl Row {
    /// How the line begins that tells of it: `lost: `, `failed: `, `call: `.
    pub(crate) fn beginning(&self) -> &'static str {
        let first =
            self.says.first().unwrap_or_else(|| panic!("row {}: nothing is said", self.number));
        let end = first.find(' ').expect("a kind and what it says");
        &first[..=end]
    }

    /// The one line that tells of it.
    pub(crate) fn only(&self) -> &'static str {
        assert_eq!(self.says.len(), 1, "row {}", self.number);
        self.says[0]
    }

    /// What the library says of the fault, and how long after it.
    pub(crate) fn told(&self, what: &str, took: Duration) -> Result<(), Late> {
        let Self { number, says, within } = self;
        assert!(says.contains(&what), "row {number}: it says {what:?}, the page {says:?}");
        let within = within.unwrap_or_else(|| panic!("row {number}: the page names no time"));
        if took > within {
            return Err(Late { number, took, within });
        }
        record(&format!("{number} | {} ms", took.as_millis().max(1)));
        Ok(())
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
    assert!(numbers.len() >= 50, "{numbers:?}");
    numbers.sort_unstable();
    let all = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), all);
}
