//! `docs/performance.md` and its plots. What stands there outside of the two markers is written by hand, and stays.

use std::path::PathBuf;

use crate::results::Results;

mod goals;
mod page;
mod plots;
mod tables;

const FROM: &str = "<!-- From here on written by `cargo run --release -p peers`. -->\n";
const TO: &str = "<!-- Up to here. -->\n";

pub(crate) fn write(results: &Results) {
    let path = documents().join("performance.md");
    let before = std::fs::read_to_string(&path).expect("docs/performance.md is there");
    let (above, rest) = before.split_once(FROM).expect("it has the first marker");
    let (_, below) = rest.split_once(TO).expect("it has the second marker");
    let page = format!("{above}{FROM}\n{}\n{TO}{below}", page::of(results).trim());
    std::fs::write(&path, page).expect("docs/performance.md can be written");
    plots::draw(results, &documents()).expect("the plots can be drawn");
    println!("docs/performance.md is written");
}

fn documents() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}
