//! Writes to the ledger, and answers: what waits goes into one statement ([`write()`]), but for claims of mails that the
//! ledger knows, which take a transaction more ([`contest`]).

use std::collections::HashSet;
use std::time::Duration;

use chassis::crash;
use chassis::postgres::{DatabaseError, Session};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::write::{Written, write};
use super::{Call, Claim, ClaimCall, LedgerError, RecordCall, contest};

/// How much one statement takes.
const BATCH: usize = 256;

/// The task that writes.
pub(super) struct Writer {
    pub(super) session: Session,
    pub(super) lease: Duration,
}

impl Writer {
    /// Writes until the service closes, and then what still waits.
    pub(super) async fn run(
        mut self,
        mut calls: mpsc::Receiver<Call>,
        closing: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut held = Vec::new();
        loop {
            while held.len() < BATCH
                && let Ok(call) = calls.try_recv()
            {
                held.push(call);
            }
            if held.is_empty() && calls.recv_many(&mut held, BATCH).await == 0 {
                // Nobody asks any more. Ending before the service does would look like a crash.
                closing.cancelled().await;
                return Ok(());
            }
            held = self.write(held).await;
        }
    }

    /// Writes these calls and answers them. Gives back those that have to wait for the next time: a statement takes one
    /// claim of a mail, and one record of a claim. The renewal of a lease may still wait when its end comes.
    async fn write(&mut self, calls: Vec<Call>) -> Vec<Call> {
        let (mut claims, mut records, mut later) = (Vec::new(), Vec::new(), Vec::new());
        let (mut claimed, mut recorded) = (HashSet::new(), HashSet::new());
        for call in calls {
            match call {
                Call::Claim(claim) if claimed.insert(claim.wanted.id) => claims.push(claim),
                Call::Record(record) if recorded.insert(record.lease.holder) => records.push(record),
                call => later.push(call),
            }
        }
        let lease = self.lease;
        let written = self.session.run(async |connection| {
            crash::point("ledger: to be written");
            let written = write(connection, &claims, &records, lease).await?;
            crash::point("ledger: written");
            Ok(written)
        });
        let contested = match written.await {
            Ok(written) => answer(written, claims, records),
            Err(error) => {
                let claims = claims.into_iter().map(Call::Claim);
                refuse(error, claims.chain(records.into_iter().map(Call::Record)).chain(later));
                return Vec::new();
            }
        };
        if !contested.is_empty() {
            self.settle(contested).await;
        }
        later
    }

    /// Answers claims of mails that the ledger knows.
    async fn settle(&mut self, claims: Vec<ClaimCall>) {
        let lease = self.lease;
        match self.session.run(async |connection| contest::settle(connection, &claims, lease).await).await {
            Ok(mut settled) => {
                for claim in claims {
                    // Each claim is either granted or there is a row that says why not.
                    let missing = || LedgerError::Failed("a claim without an answer".to_owned());
                    let _ = claim.reply.send(settled.remove(&claim.wanted.id).ok_or_else(missing));
                }
            }
            Err(error) => refuse(error, claims.into_iter().map(Call::Claim)),
        }
    }
}

/// Answers what was written; gives back the claims of mails that the ledger knows.
fn answer(written: Written, claims: Vec<ClaimCall>, records: Vec<RecordCall>) -> Vec<ClaimCall> {
    for record in records {
        let _ = record.reply.send(Ok(written.recorded.contains(&record.lease.holder)));
    }
    let mut contested = Vec::new();
    for (claim, granted) in claims.into_iter().zip(written.granted) {
        match granted {
            Some(lease) => drop(claim.reply.send(Ok(Claim::Granted(lease)))),
            None => contested.push(claim),
        }
    }
    contested
}

/// Says to all that nothing was written: those that have not waited yet would wait as long.
fn refuse(error: DatabaseError, calls: impl Iterator<Item = Call>) {
    let error = LedgerError::from(error);
    let mut refused = 0;
    for call in calls {
        refused += 1;
        // Who asked may have left.
        match call {
            Call::Claim(claim) => drop(claim.reply.send(Err(error.clone()))),
            Call::Record(record) => drop(record.reply.send(Err(error.clone()))),
        }
    }
    tracing::warn!(%error, refused, "the ledger waits");
}
