//! What one run of all measurements found.

use serde::{Deserialize, Serialize};

use crate::grid::{Case, Row};
use crate::growth::Growth;
use crate::idle::Idle;
use crate::machine::Machine;
use crate::peers::Name;
use crate::recovery::Recovery;
use crate::rounds::Table;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) minutes: f64,
    pub(crate) calls: Vec<Row>,
    pub(crate) checkout: Table,
    pub(crate) growth: Growth,
    pub(crate) idle: Idle,
    pub(crate) recovery: Vec<Recovery>,
}

impl Results {
    pub(crate) fn row(&self, name: Name, body: usize, callers: usize) -> Option<&Row> {
        let case = Case { body, callers, connections: 1 };
        self.calls.iter().find(|row| row.name == name && row.case == case)
    }
}
