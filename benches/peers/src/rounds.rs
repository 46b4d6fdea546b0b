//! Interleaved rounds and their medians, as a table.

/// One line of a table for each of those compared, one column for each load.
#[derive(Debug)]
pub(crate) struct Table {
    names: Vec<&'static str>,
    columns: Vec<String>,
    /// What each round gave, by line and column.
    cells: Vec<Vec<Vec<f64>>>,
}

impl Table {
    pub(crate) fn new(names: &[&'static str], columns: impl IntoIterator<Item = String>) -> Self {
        let columns: Vec<_> = columns.into_iter().collect();
        let cells = vec![vec![Vec::new(); columns.len()]; names.len()];
        Self { names: names.to_vec(), columns, cells }
    }

    pub(crate) fn add(&mut self, line: usize, column: usize, value: f64) {
        self.cells[line][column].push(value);
    }

    pub(crate) fn print(&self) {
        print!("{:<12}", "");
        self.columns.iter().for_each(|column| print!("{column:>14}"));
        println!();
        for (name, line) in self.names.iter().zip(&self.cells) {
            print!("{name:<12}");
            line.iter().for_each(|values| print!("{:>14.0}", median(values)));
            println!();
        }
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
