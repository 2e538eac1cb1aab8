//! The steps of trails: each is kept once, whatever comes with it.

use bson::doc;
use contracts::logger::{AppendError, Stored};
use contracts::trail::{Details, Step, StepKind};
use logger::document::step::decode;
use testkit::eventually;
use uuid::Uuid;

use crate::running::{Logger, SOON, context, now, step};

#[tokio::test]
async fn a_step_is_kept_once_however_often_it_is_told() {
    let logger = Logger::start().await;
    let (client, context, action) = (logger.client(), context(), Uuid::now_v7());
    let (queued, done) = (step(action, StepKind::Queued, 0), step(action, StepKind::Done, 1));
    let batch = vec![queued.clone(), queued.clone(), done.clone()];
    let outcomes = client.record(&context, batch).await.unwrap();
    assert_eq!(outcomes, [Ok(Stored::Created), Ok(Stored::Already), Ok(Stored::Created)]);
    // Told again, as after a break, and by another who saw it at another time.
    let later = Step { at: now(), ..queued };
    let outcomes = client.record(&context, vec![done, later]).await.unwrap();
    assert_eq!(outcomes, [Ok(Stored::Already), Ok(Stored::Already)]);
    let steps = logger.mongo().await.steps();
    assert_eq!(steps.count_documents(doc! {}).await.unwrap(), 2);
    assert_eq!(client.record(&context, Vec::new()).await, Ok(Vec::new()));
    logger.stop().await;
}

#[tokio::test]
async fn a_step_is_stored_with_all_it_says() {
    let logger = Logger::start().await;
    let (at, why) = (now(), Some("it is busy".to_owned()));
    let details = Details { attempt: Some(3), why, due: Some(at), began: Some(at) };
    let trace_id = Some("0af7651916cd43dd8448eb211c80319c".to_owned());
    let told = Step { trace_id, details, ..step(Uuid::now_v7(), StepKind::Retrying, 0) };
    logger.record(std::slice::from_ref(&told)).await;
    let stored = logger.mongo().await.steps().find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(decode(&stored).unwrap(), told);
    logger.stop().await;
}

#[tokio::test]
async fn a_step_that_mongodb_refuses_costs_the_others_nothing() {
    let logger = Logger::start().await;
    let mongo = logger.mongo().await;
    let validator = doc! { "collMod": "steps", "validator": { "kind": { "$ne": "resent" } } };
    eventually(SOON, "the collection is there", || async {
        mongo.database().run_command(validator.clone()).await
    })
    .await;
    let action = Uuid::now_v7();
    let kinds = [StepKind::Queued, StepKind::Resent, StepKind::Done];
    let batch = kinds.map(|kind| step(action, kind, 0)).to_vec();
    let outcomes = logger.client().record(&context(), batch).await.unwrap();
    assert!(matches!(&outcomes[1], Err(AppendError::Refused(_))), "{outcomes:?}");
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(Stored::Created), &Ok(Stored::Created)));
    logger.stop().await;
}
