//! Interleaved rounds and their medians, as a table.

use serde::{Deserialize, Serialize};

/// One line of a table for each of those compared, one column for each load.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) names: Vec<String>,
    pub(crate) columns: Vec<String>,
    /// What each round gave, by line and column.
    cells: Vec<Vec<Vec<f64>>>,
}

impl Table {
    pub(crate) fn new<'a>(
        names: impl Iterator<Item = &'a str>,
        columns: impl Iterator<Item = String>,
    ) -> Self {
        let (names, columns): (Vec<_>, Vec<_>) =
            (names.map(str::to_owned).collect(), columns.collect());
        let cells = vec![vec![Vec::new(); columns.len()]; names.len()];
        Self { names, columns, cells }
    }

    pub(crate) fn add(&mut self, line: usize, column: usize, value: f64) {
        self.cells[line][column].push(value);
    }

    /// The medians of one line.
    pub(crate) fn line(&self, name: &str) -> Option<Vec<f64>> {
        let line = self.names.iter().position(|known| known == name)?;
        Some(self.cells[line].iter().map(|values| median(values)).collect())
    }

    pub(crate) fn print(&self) {
        print!("{:<12}", "");
        self.columns.iter().for_each(|column| print!("{column:>14}"));
        println!();
        for name in &self.names {
            print!("{name:<12}");
            self.line(name).into_iter().flatten().for_each(|median| print!("{median:>14.0}"));
            println!();
        }
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
