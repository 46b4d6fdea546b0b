//! Tables in Markdown, and numbers as they stand in them.

use crate::grid::Row;
use crate::peers::Name;
use crate::results::Results;

/// A table, of its lines.
pub(super) fn table(head: &[String], lines: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule: Vec<_> =
        (0..head.len()).map(|column| if column == 0 { "---" } else { "---:" }).collect();
    let rule = format!("|{}|\n", rule.join("|"));
    lines.into_iter().fold(line(head) + &rule, |table, cells| table + &line(&cells))
}

/// A line for each of those compared, a column for each load.
pub(super) fn by_load(
    results: &Results,
    loads: &[(usize, usize)],
    cell: impl Fn(&Row) -> String,
) -> String {
    let titles = loads.iter().map(|(body, callers)| format!("{} x{callers}", size(*body)));
    let head: Vec<_> = std::iter::once(String::new()).chain(titles).collect();
    let lines = Name::ALL.into_iter().map(|name| {
        let cells = loads
            .iter()
            .map(|(body, callers)| results.row(name, *body, *callers).map_or(String::new(), &cell));
        std::iter::once(title(name)).chain(cells).collect()
    });
    table(&head, lines)
}

pub(super) fn title(name: Name) -> String {
    match name {
        Name::Steadfast => format!("**{name}**"),
        _ => name.to_string(),
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// Three digits, and k or M.
pub(super) fn short(number: f64) -> String {
    match number {
        _ if number.is_nan() => String::new(),
        1e6.. => format!("{}M", digits(number / 1e6)),
        1e3.. => format!("{}k", digits(number / 1e3)),
        _ => digits(number),
    }
}

/// As many digits as say something.
pub(super) fn digits(number: f64) -> String {
    match number.abs() {
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

pub(super) fn optional(number: Option<f64>) -> String {
    number.map_or(String::new(), digits)
}
