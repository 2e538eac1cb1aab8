//! One run: the services at rest, every path, the services some time after; then the tables.

use std::fs;
use std::path::Path as File;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mongodb::Client;
use serde_json::{Value, json};

use crate::figures::{Outcome, median};
use crate::paths::Path;
use crate::process::{Memory, Peak};
use crate::setup::Setup;
use crate::table;

/// The most that all six may take at rest, in MiB.
const IDLE_GOAL: f64 = 42.0;
/// The most that all six may take under load, in MiB.
const LOAD_GOAL: f64 = 150.0;
/// How long the services get to give memory back.
const REST: Duration = Duration::from_secs(12);

/// Measures these paths, or all, and prints what came of it.
pub(crate) fn run(only: &[Path], rounds: usize, large: bool, json: Option<&File>) -> anyhow::Result<()> {
    let setup = Setup::from_environment(rounds, large)?;
    let wanted = |path: &Path| only.is_empty() || only.contains(path);
    let idle = setup.processes.memory();
    let peak = Peak::watch(setup.processes.clone());
    let mut outcome = Outcome::default();
    let began = Instant::now();
    for path in Path::ALL.into_iter().filter(wanted) {
        eprintln!("bench: {:3.0} s  {path:?}", began.elapsed().as_secs_f64());
        match path.measure(&setup) {
            Ok(of_path) => {
                outcome.rows.extend(of_path.rows);
                outcome.costs.extend(of_path.costs);
                outcome.orientation.extend(of_path.orientation);
                outcome.notes.extend(of_path.notes);
            }
            Err(error) => outcome.notes.push(format!("{path:?} could not be measured: {error:#}")),
        }
    }
    let (most, most_together) = peak.seen();
    drop(peak);
    setup.runtime.block_on(clean(&setup))?;
    eprintln!("bench: {:3.0} s  at rest", began.elapsed().as_secs_f64());
    std::thread::sleep(REST);
    let after = setup.processes.memory();

    table::paths(&outcome.rows);
    table::costs(&outcome.costs);
    let (idle_total, after_total) = (idle.total(), after.total());
    let moments = [
        ("idle, before load", idle, idle_total, Some(IDLE_GOAL)),
        ("under load, at most", most, most_together, Some(LOAD_GOAL)),
        ("idle, after load", after, after_total, None),
    ];
    table::memory(&moments);
    table::orientation(&outcome.orientation);
    println!();
    for note in &outcome.notes {
        println!("  {note}");
    }
    println!("  {rounds} round(s), {:.0} s", began.elapsed().as_secs_f64());
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&figures(&outcome, &moments))?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Removes what the floors have written.
async fn clean(setup: &Setup) -> anyhow::Result<()> {
    let client = Client::with_uri_str(&setup.mongo_url).await?;
    Ok(client.database(&setup.namespace).drop().await?)
}

fn figures(outcome: &Outcome, moments: &[(&str, Memory, f64, Option<f64>)]) -> Value {
    let rows = outcome
        .rows
        .iter()
        .map(|row| json!({"row": row, "ratio": median(&row.ratios()), "holds": row.holds()}));
    let costs = outcome.costs.iter().map(|cost| {
        let micros: serde_json::Map<_, _> =
            cost.micros().into_iter().map(|(name, micros)| (name.to_owned(), micros.into())).collect();
        json!({"path": cost.path, "requests": cost.count, "cpu_micros_a_request": micros})
    });
    let memory = moments.iter().map(|(moment, memory, total, goal)| {
        json!({"moment": moment, "mib": memory.0, "total_mib": total, "goal_mib": goal})
    });
    json!({
        "paths": rows.collect::<Vec<_>>(),
        "costs": costs.collect::<Vec<_>>(),
        "memory": memory.collect::<Vec<_>>(),
        "orientation": outcome.orientation,
        "notes": outcome.notes,
    })
}
