//! What a path gives: rows of the table, CPU time a request, and figures to set beside those of another system.

use serde::Serialize;

use crate::process::{Cpu, SERVERS, SERVICES};

/// One line of the table: a path, its floor, and ours, round by round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was done, and how many did it at a time.
    pub(crate) path: String,
    /// What the floor is.
    pub(crate) against: String,
    /// What both are counted in.
    pub(crate) unit: Unit,
    /// The floor's figure of each round.
    pub(crate) floor: Vec<f64>,
    /// Ours of each round.
    pub(crate) ours: Vec<f64>,
    /// What is asked.
    pub(crate) goal: Goal,
}

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// More is better.
    PerSecond,
    /// Less is better.
    Milliseconds,
}

/// What is asked of ours beside its floor.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// Ours is at least this many times the floor.
    Times(f64),
    /// Ours is the floor and at most so much more.
    Plus(f64),
    /// Nothing: it stands there to explain another row.
    None,
}

impl Row {
    /// A row without figures yet.
    pub(crate) fn new(path: &str, against: &str, unit: Unit, goal: Goal) -> Self {
        let (path, against) = (path.to_owned(), against.to_owned());
        Self { path, against, unit, floor: Vec::new(), ours: Vec::new(), goal }
    }

    /// Adds a round.
    pub(crate) fn round(&mut self, floor: f64, ours: f64) {
        self.floor.push(floor);
        self.ours.push(ours);
    }

    /// Ours to the floor, round by round: a quotient, or for [`Goal::Plus`] a difference. In ascending order.
    pub(crate) fn ratios(&self) -> Vec<f64> {
        let of = |(floor, ours): (&f64, &f64)| match self.goal {
            Goal::Times(_) | Goal::None => ours / floor,
            Goal::Plus(_) => ours - floor,
        };
        let mut ratios: Vec<_> = std::iter::zip(&self.floor, &self.ours).map(of).collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }

    /// Whether the goal holds, by the median; `None` where there is none.
    pub(crate) fn holds(&self) -> Option<bool> {
        let ratio = median(&self.ratios());
        match self.goal {
            Goal::Times(least) => Some(ratio >= least),
            Goal::Plus(most) => Some(ratio <= most),
            Goal::None => None,
        }
    }
}

/// The one in the middle; of an even number, the mean of the two.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// CPU time of a path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cost {
    /// The path.
    pub(crate) path: String,
    /// How many requests.
    pub(crate) count: f64,
    /// Used meanwhile.
    pub(crate) cpu: Cpu,
}

impl Cost {
    /// Nothing used yet.
    pub(crate) fn of(path: &str) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }

    /// Adds a stretch of time in which `count` requests were made.
    pub(crate) fn add(&mut self, count: f64, cpu: &Cpu) {
        self.count += count;
        self.cpu.add(cpu);
    }

    /// Microseconds a request, by process, in the order in which they are shown.
    pub(crate) fn micros(&self) -> Vec<(&'static str, f64)> {
        let names = SERVICES.into_iter().chain(SERVERS).chain(["bench"]);
        names.map(|name| (name, self.cpu.micros_each(name, self.count))).collect()
    }
}

/// Ours beside the system that people would pick instead.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Orientation {
    /// What is counted, and in what.
    pub(crate) what: &'static str,
    /// The other's figure.
    pub(crate) theirs: f64,
    /// How many times that ours is to be, where it is said.
    pub(crate) times: Option<f64>,
    /// Ours.
    pub(crate) ours: f64,
}

/// All that came of one path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// For the table.
    pub(crate) rows: Vec<Row>,
    /// CPU time.
    pub(crate) costs: Vec<Cost>,
    /// Beside the other system.
    pub(crate) orientation: Vec<Orientation>,
    /// What else is worth a line.
    pub(crate) notes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_middle_round() {
        let mut row = Row::new("p", "f", Unit::PerSecond, Goal::Times(0.5));
        for (floor, ours) in [(100.0, 40.0), (100.0, 60.0), (50.0, 45.0)] {
            row.round(floor, ours);
        }
        assert_eq!(row.ratios(), [0.4, 0.6, 0.9]);
        assert_eq!(row.holds(), Some(true));
    }

    #[test]
    fn a_latency_may_be_a_little_more_than_its_floor() {
        let mut row = Row::new("p", "f", Unit::Milliseconds, Goal::Plus(0.5));
        row.round(1.0, 1.75);
        assert_eq!(row.holds(), Some(false));
    }

    #[test]
    fn the_middle_of_two_is_between_them() {
        assert!((median(&[3.0, 1.0]) - 2.0).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
