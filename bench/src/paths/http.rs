//! `POST /`, beside a bare axum route in a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use axum::routing::post;
use axum::{Json, Router};
use contracts::reply::Reply;
use tokio::net::TcpListener;

use crate::figures::{Cost, Goal, Orientation, Outcome, Row, Unit, median};
use crate::load::{self, Load};
use crate::process::Processes;
use crate::setup::{Setup, Started};

const CLIENTS: usize = 64;
const DURATION: Duration = Duration::from_secs(2);

/// Serves the floor: the same answer from `axum::serve`, and nothing around it. Says its address in a line.
pub(crate) fn serve_floor() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        let routes = Router::new().route("/", post(async || Json(Reply::<()>::ok("Hit the Broker"))));
        Ok(axum::serve(listener, routes).await?)
    })
}

struct Floor {
    address: SocketAddr,
    process: Started,
}

impl Floor {
    fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = Started::start(command.arg("floor-http").stdout(Stdio::piped()))?;
        let output = process.child().stdout.take().context("a floor without output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        Ok(Self { address: line.trim().parse()?, process })
    }
}

/// Measures it.
pub(crate) fn measure(setup: &Setup) -> anyhow::Result<Outcome> {
    let path = format!("POST /, {CLIENTS} clients");
    let mut row = Row::new(&path, "a bare axum route", Unit::PerSecond, Goal::Times(0.9));
    let (mut cost, mut floor_cost) = (Cost::of(&path), Cost::of("  its floor (as broker)"));
    let mut outcome = Outcome::default();
    let floor = Floor::start()?;
    let request = load::post("/", "", "");
    let ours = Load { address: setup.broker, clients: CLIENTS, request, expected: 200, duration: DURATION };
    let bare = Load { address: floor.address, ..ours.clone() };
    let bare_process = Processes::default().with("broker", floor.process.pid());
    for _ in 0..setup.rounds {
        let (bare, ours) = (bare.run(&bare_process)?, ours.run(&setup.processes)?);
        outcome.notes.extend(ours.complaint(&path));
        floor_cost.add(f64::from(bare.count), &bare.cpu);
        cost.add(f64::from(ours.count), &ours.cpu);
        row.round(bare.rate, ours.rate);
    }
    outcome.orientation.push(Orientation {
        what: "POST /, requests/s at 64 clients",
        theirs: 62_600.0,
        times: None,
        ours: median(&row.ours),
    });
    outcome.rows.push(row);
    outcome.costs.extend([cost, floor_cost]);
    Ok(outcome)
}
