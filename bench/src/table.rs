//! Prints the figures for people, as aligned columns.

use std::collections::BTreeMap;

use crate::figures::{Cost, Goal, Orientation, Row, Unit, median};
use crate::process::{Memory, SERVICES};

/// Ours beside the floors.
pub(crate) fn paths(rows: &[Row]) {
    let mut lines = vec![line(["path", "floor", "", "ours", "ratio", "min..max", "goal", "ok?"])];
    for row in rows {
        let ratios = row.ratios();
        let (least, most) = (ratios.first().copied(), ratios.last().copied());
        let figure = |value: f64| match row.unit {
            Unit::PerSecond => format!("{}/s", count(value)),
            Unit::Milliseconds => format!("{value:.2} ms"),
        };
        let ratio = |value: f64| match row.goal {
            Goal::Plus(_) => format!("{value:+.2}"),
            Goal::Times(_) | Goal::None => format!("{value:.2}"),
        };
        let range = |value: Option<f64>| ratio(value.unwrap_or(f64::NAN));
        lines.push(vec![
            row.path.clone(),
            figure(median(&row.floor)),
            row.against.clone(),
            figure(median(&row.ours)),
            ratio(median(&ratios)),
            format!("{}..{}", range(least), range(most)),
            match row.goal {
                Goal::Times(least) => format!(">= {least}"),
                Goal::Plus(most) => format!("<= +{most} ms"),
                Goal::None => String::new(),
            },
            match row.holds() {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "",
            }
            .to_owned(),
        ]);
    }
    print("Ours beside the floor, taken in turns; the figures are medians of the rounds", &lines, &[1, 3, 4]);
}

/// CPU time a request, by process.
pub(crate) fn costs(costs: &[Cost]) {
    let Some(first) = costs.first() else { return };
    let names: Vec<_> = first.micros().iter().map(|(name, _)| *name).collect();
    let mut lines = vec![line(["µs a request"].into_iter().chain(names.iter().copied()))];
    for cost in costs {
        let shown = |(_, micros): (_, f64)| match micros {
            none if none < 0.05 => "-".to_owned(),
            few if few < 100.0 => format!("{few:.1}"),
            many => count(many),
        };
        lines.push([cost.path.clone()].into_iter().chain(cost.micros().into_iter().map(shown)).collect());
    }
    let right: Vec<_> = (1..=names.len()).collect();
    print("CPU time of each process (user and system; `bench` is the load generator)", &lines, &right);
}

/// Resident memory, with a line for each moment and its total, and the most that it is to be.
pub(crate) fn memory(moments: &[(&str, Memory, f64, Option<f64>)]) {
    let names = ["MiB"].into_iter().chain(SERVICES).chain(["total", "goal", "ok?"]);
    let mut lines = vec![line(names)];
    for (moment, memory, total, goal) in moments {
        let of = |name: &str| memory.0.get(name).map_or("-".to_owned(), |size| format!("{size:.1}"));
        let services = SERVICES.into_iter().map(of);
        let verdict = |most: &f64| if total <= most { "yes" } else { "NO" };
        lines.push(
            [(*moment).to_owned()]
                .into_iter()
                .chain(services)
                .chain([
                    format!("{total:.1}"),
                    goal.map_or(String::new(), |most| format!("<= {most}")),
                    goal.as_ref().map_or("", verdict).to_owned(),
                ])
                .collect(),
        );
    }
    print("Resident memory", &lines, &[1, 2, 3, 4, 5, 6, 7]);
}

/// Beside the other system, whose figures were taken on another machine of this kind.
pub(crate) fn orientation(figures: &[Orientation]) {
    let mut lines = vec![line(["", "theirs", "ours", "times", "is to be"])];
    for figure in figures {
        let number = |value: f64| if value < 100.0 { format!("{value:.1}") } else { count(value) };
        lines.push(vec![
            figure.what.to_owned(),
            number(figure.theirs),
            number(figure.ours),
            format!("{:.1}", figure.ours / figure.theirs),
            figure.times.map_or(String::new(), |times| format!("{times:.0}")),
        ]);
    }
    print(
        "For orientation: a system in Go that people would pick instead, on such a machine",
        &lines,
        &[1, 2, 3, 4],
    );
}

fn line<'a>(cells: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    cells.into_iter().map(str::to_owned).collect()
}

/// A whole number with its thousands set apart.
fn count(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A title, then the lines, the first as their heads; the columns of `right` are flush right.
fn print(title: &str, lines: &[Vec<String>], right: &[usize]) {
    let mut widths = BTreeMap::new();
    for (column, cell) in lines.iter().flat_map(|line| line.iter().enumerate()) {
        let width: &mut usize = widths.entry(column).or_default();
        *width = (*width).max(cell.chars().count());
    }
    println!("\n{title}\n");
    for line in lines {
        let cells = line.iter().enumerate().map(|(column, cell)| {
            let width = widths[&column];
            if right.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0.4, 999.6, 62_600.0, 1_234_567.0].map(count), ["0", "1,000", "62,600", "1,234,567"]);
    }
}
