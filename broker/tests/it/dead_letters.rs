//! Dead letters: shown and discarded by the logger, replayed from here.

mod keeper;

use contracts::dead_letter::{Body, Letter, LetterState, MAX_BODY};
use contracts::log::bare_id;
use lapin::BasicProperties;
use lapin::types::ShortString;
use serde_json::json;
use testkit::http::{Client, Response};
use uuid::Uuid;

use self::keeper::{Keeper, letter};
use crate::stand::{Broker, Stand};

/// A broker, and a logger that keeps dead letters.
async fn stand() -> (Stand, Keeper, Broker) {
    on(Stand::empty()).await
}

async fn on(mut stand: Stand) -> (Stand, Keeper, Broker) {
    let keeper = Keeper::default();
    stand.logger_http = keeper.serve().await;
    let broker = stand.start().await;
    (stand, keeper, broker)
}

async fn get(broker: &Broker, path: &str) -> Response {
    testkit::http::get(&format!("{}/dead-letters{path}", broker.url)).await
}

async fn post(broker: &Broker, path: &str, body: &serde_json::Value) -> Response {
    testkit::http::post(&format!("{}/dead-letters{path}", broker.url), body).await
}

async fn replay(broker: &Broker, id: Uuid) -> Response {
    let url = format!("{}/dead-letters/{id}/replay", broker.url);
    Client::default().send(http::Method::POST, &url, &[], "").await.unwrap()
}

fn header(properties: &BasicProperties, name: &str) -> String {
    let value = properties.headers().as_ref().unwrap().inner().get(name).unwrap();
    value.as_long_string().unwrap().to_string()
}

#[tokio::test]
async fn letters_are_shown_as_the_logger_shows_them() {
    let (_stand, keeper, broker) = on(Stand::alone()).await;
    let letter = keeper.keep(letter("q"));
    let answer = get(&broker, "?state=dead&text=a%20b&limit=2").await;
    assert_eq!((answer.status, answer.message()), (200, "asked: state=dead&text=a%20b&limit=2"));
    assert_eq!(answer.body["data"]["letters"][0]["id"], json!(letter.id));
    assert_eq!(answer.body["data"]["next"], json!(null));
    assert_eq!(get(&broker, "").await.message(), "asked: ");
    let answer = get(&broker, &format!("/{}", letter.id)).await;
    assert_eq!((answer.status, &answer.body["data"]["state"]), (200, &json!("dead")));
    let answer = get(&broker, &format!("/{}", Uuid::nil())).await;
    assert_eq!((answer.status, answer.message()), (404, keeper::nothing(Uuid::nil()).as_str()));
    assert_eq!(get(&broker, "/7").await.status, 400);
}

#[tokio::test]
async fn a_letter_is_discarded_for_a_reason() {
    let (_stand, keeper, broker) = on(Stand::alone()).await;
    let id = keeper.keep(letter("q")).id;
    let path = format!("/{id}/discard");
    let answer = post(&broker, &path, &json!({})).await;
    assert_eq!((answer.status, answer.message()), (422, "discard: reason is required"));
    assert_eq!(post(&broker, &path, &json!({"reason": "a test"})).await.status, 200);
    assert_eq!(keeper.state(id), (LetterState::Discarded, Some("a test".to_owned())));
    assert_eq!(post(&broker, &path, &json!({"reason": "again"})).await.status, 409);
    assert_eq!(post(&broker, "/7/discard", &json!({"reason": "r"})).await.status, 400);
}

#[tokio::test]
async fn a_replayed_letter_is_in_its_queue_again_as_it_was() {
    let (stand, keeper, broker) = stand().await;
    let letter = keeper.keep(letter(&stand.topology.mail_queue));
    let answer = replay(&broker, letter.id).await;
    let message = format!("Replayed: {} is in {} again", letter.id, stand.topology.mail_queue);
    assert_eq!((answer.status, answer.message()), (202, message.as_str()), "{}", answer.body);
    assert_eq!(answer.header("location"), format!("/actions/{}", letter.action.unwrap()));
    assert_eq!(keeper.state(letter.id).0, LetterState::Replayed);

    let message = stand.only(&stand.topology.mail_queue).await;
    assert_eq!(message.data, letter.body.body.as_bytes());
    let properties = &message.properties;
    assert_eq!(properties.message_id().as_ref().map(ShortString::as_str), letter.message_id.as_deref());
    assert_eq!(properties.content_type().as_ref().map(ShortString::as_str), letter.content_type.as_deref());
    assert_eq!(properties.timestamp(), &Some(1_767_323_045));
    assert_eq!(properties.delivery_mode(), &Some(2));
    assert_eq!(header(properties, "x-exchange"), letter.exchange);
    assert_eq!(header(properties, "x-routing-key"), letter.routing_key);
    assert_eq!(Some(header(properties, "traceparent")), letter.traceparent);

    let answer = replay(&broker, letter.id).await;
    let message = format!("the dead letter {} was replayed before", letter.id);
    assert_eq!((answer.status, answer.message()), (409, message.as_str()));
    assert!(stand.drain(&stand.topology.mail_queue).await.is_empty());
    testkit::rabbitmq::clean(&stand.topology).await;
    broker.running.stop().await;
}

#[tokio::test]
async fn a_letter_that_is_no_action_has_no_location_and_may_be_binary() {
    let (stand, keeper, broker) = stand().await;
    let mut letter = letter(&stand.topology.log_queue);
    (letter.action, letter.message_id, letter.content_type) = (None, None, None);
    letter.body = Body::of(b"\xff\x00");
    let letter = keeper.keep(letter);
    let answer = replay(&broker, letter.id).await;
    assert_eq!((answer.status, answer.header("location")), (202, ""), "{}", answer.body);
    let message = stand.only(&stand.topology.log_queue).await;
    assert_eq!(message.data, b"\xff\x00");
    assert_eq!(message.properties.message_id().as_ref().unwrap().as_str(), letter.id.to_string());
    testkit::rabbitmq::clean(&stand.topology).await;
}

#[tokio::test]
async fn a_letter_may_be_replayed_with_another_body() {
    let (stand, keeper, broker) = stand().await;
    let is_replayed = async |id: Uuid, body: &serde_json::Value, expected: &str| {
        let answer = post(&broker, &format!("/{id}/replay"), body).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let message = stand.only(&stand.topology.log_queue).await;
        assert_eq!(std::str::from_utf8(&message.data), Ok(expected));
        assert_eq!(keeper.state(id).0, LetterState::Replayed);
    };
    let small = keeper.keep(letter(&stand.topology.log_queue));
    is_replayed(small.id, &json!({"body": "as \"it\" is\n"}), "as \"it\" is\n").await;

    let mut long = letter(&stand.topology.log_queue);
    long.body = Body::of(&vec![b'x'; MAX_BODY + 1]);
    let long = keeper.keep(long);
    let answer = replay(&broker, long.id).await;
    let message = "replay: body is required: the letter's own is not whole";
    assert_eq!((answer.status, answer.message()), (422, message));
    assert_eq!(keeper.state(long.id).0, LetterState::Dead);
    is_replayed(long.id, &json!({"body": {"name": "n", "data": [1]}}), r#"{"data":[1],"name":"n"}"#).await;
    testkit::rabbitmq::clean(&stand.topology).await;
}

#[tokio::test]
async fn only_dead_letters_of_queues_of_our_own_are_replayed() {
    // RabbitMQ is not even asked.
    let (stand, keeper, broker) = on(Stand::alone()).await;
    let foreign = keeper.keep(letter("somebody.elses")).id;
    let dead = keeper.keep(letter(&stand.topology.dead_queue)).id;
    let discarded = keeper.keep_as(letter(&stand.topology.log_queue), LetterState::Discarded).id;
    for (id, status, message) in [
        (
            foreign,
            409,
            format!("the dead letter {foreign} died in \"somebody.elses\", which is no queue of this system"),
        ),
        (
            dead,
            409,
            format!(
                "the dead letter {dead} died in {:?}, which is no queue of this system",
                stand.topology.dead_queue
            ),
        ),
        (discarded, 409, format!("the dead letter {discarded} was discarded before")),
        (Uuid::nil(), 404, keeper::nothing(Uuid::nil())),
    ] {
        let answer = replay(&broker, id).await;
        assert_eq!((answer.status, answer.message()), (status, message.as_str()));
    }
    assert_eq!(post(&broker, "/7/replay", &json!({})).await.status, 400);
    assert_eq!(keeper.state(foreign).0, LetterState::Dead);
    assert!(!keeper.is_replaying(foreign));
}

#[tokio::test]
async fn with_another_body_a_letter_is_the_same_effect() {
    let (stand, keeper, broker) = stand().await;
    let event = |id: Uuid, data: i32| json!({"specversion": "1.0", "id": id, "data": data}).to_string();
    let id = Uuid::now_v7();
    let asked = Letter { body: Body::of(event(id, 1).as_bytes()), ..letter(&stand.topology.mail_queue) };
    let asked = keeper.keep(asked);
    let path = format!("/{}/replay", asked.id);
    let answer = post(&broker, &path, &json!({"body": event(Uuid::now_v7(), 2)})).await;
    let message = format!("replay: body must keep the id of its event, {id}");
    assert_eq!((answer.status, answer.message()), (422, message.as_str()));
    assert_eq!((keeper.state(asked.id).0, keeper.is_replaying(asked.id)), (LetterState::Dead, false));
    assert_eq!(post(&broker, &path, &json!({"body": event(id, 2)})).await.status, 202);
    assert_eq!(stand.only(&stand.topology.mail_queue).await.data, event(id, 2).as_bytes());

    // Of whoever counts, the id of the entry is made of the body too: of the one that it had.
    let bare = letter(&stand.topology.log_queue);
    let body = Body::of(br#"{"name":"n","data":0}"#);
    let bare = keeper.keep(Letter { message_id: Some("17".to_owned()), content_type: None, body, ..bare });
    for data in [1, 2] {
        keeper.fail_once();
        let body = json!({"body": {"name": "n", "data": data}});
        assert_eq!(post(&broker, &format!("/{}/replay", bare.id), &body).await.status, 503);
    }
    let entry = bare_id("17", bare.body.body.as_bytes()).to_string();
    let messages = stand.drain(&stand.topology.log_queue).await;
    let ids =
        messages.iter().map(|message| message.properties.message_id().as_ref().map(ShortString::as_str));
    assert_eq!(ids.collect::<Vec<_>>(), [Some(entry.as_str()); 2]);
    testkit::rabbitmq::clean(&stand.topology).await;
}

#[tokio::test]
async fn two_replays_at_once_both_succeed() {
    let (stand, keeper, broker) = stand().await;
    let letter = keeper.keep(letter(&stand.topology.log_queue));
    keeper.show_to_two_before_it_is_decided();
    let (one, other) = tokio::join!(replay(&broker, letter.id), replay(&broker, letter.id));
    assert_eq!((one.status, other.status), (202, 202), "{} {}", one.body, other.body);
    let messages = stand.drain(&stand.topology.log_queue).await;
    assert!(messages.iter().all(|message| {
        message.properties.message_id().as_ref().map(ShortString::as_str) == letter.message_id.as_deref()
    }));
    assert_eq!((messages.len(), keeper.state(letter.id).0), (2, LetterState::Replayed));
    testkit::rabbitmq::clean(&stand.topology).await;
}

#[tokio::test]
async fn a_letter_is_recorded_as_replayed_only_once_it_is_in_its_queue() {
    let (stand, proxy) = Stand::behind_proxy().await;
    let (stand, keeper, broker) = on(stand).await;
    broker.connected().await;
    let id = keeper.keep(letter(&stand.topology.log_queue)).id;
    proxy.cut();
    let answer = replay(&broker, id).await;
    let message = "RabbitMQ is not available, try again shortly";
    assert_eq!((answer.status, answer.message()), (503, message), "{}", answer.body);
    assert_eq!(keeper.state(id).0, LetterState::Dead);
    let answer = post(&broker, "/replay", &json!({"ids": [id]})).await;
    assert_eq!((answer.status, answer.message()), (202, "Replayed: 0 of 1"));
    assert_eq!(answer.body["data"]["failed"], json!([{"id": id, "status": 503, "message": message}]));
    proxy.restore();
    broker.connected().await;
    assert_eq!(replay(&broker, id).await.status, 202);
    assert_eq!(keeper.state(id).0, LetterState::Replayed);
    testkit::rabbitmq::clean(&stand.topology).await;
}

#[tokio::test]
async fn a_replay_that_could_not_be_recorded_may_be_asked_for_again() {
    let (stand, keeper, broker) = stand().await;
    let letter = keeper.keep(letter(&stand.topology.trail_queue));
    keeper.fail_once();
    let answer = replay(&broker, letter.id).await;
    let message = "the logger: MongoDB is not available, try again shortly";
    assert_eq!((answer.status, answer.message()), (503, message));
    // It may be in its queue: nobody is to discard it unawares.
    assert_eq!((keeper.state(letter.id).0, keeper.is_replaying(letter.id)), (LetterState::Dead, true));
    assert_eq!(replay(&broker, letter.id).await.status, 202);
    for message in stand.drain(&stand.topology.trail_queue).await {
        assert_eq!(
            message.properties.message_id().as_ref().map(ShortString::as_str),
            letter.message_id.as_deref()
        );
    }
    testkit::rabbitmq::clean(&stand.topology).await;
}

#[tokio::test]
async fn many_are_replayed_and_discarded_each_for_itself() {
    let (stand, keeper, broker) = stand().await;
    let good: Vec<_> = (0..9).map(|_| keeper.keep(letter(&stand.topology.log_queue)).id).collect();
    let foreign = keeper.keep(letter("somebody.elses")).id;
    let asked: Vec<_> = good.iter().copied().chain([foreign, Uuid::nil(), good[0]]).collect();
    let answer = post(&broker, "/replay", &json!({"ids": asked})).await;
    assert_eq!((answer.status, answer.message()), (202, "Replayed: 9 of 11"), "{}", answer.body);
    assert_eq!(answer.body["data"]["replayed"], json!(good));
    let failed = &answer.body["data"]["failed"];
    assert_eq!((&failed[0]["id"], &failed[0]["status"]), (&json!(foreign), &json!(409)));
    let message = keeper::nothing(Uuid::nil());
    assert_eq!(failed[1], json!({"id": Uuid::nil(), "status": 404, "message": message}));
    assert_eq!(stand.drain(&stand.topology.log_queue).await.len(), 9);

    let asked = json!({"ids": [foreign, good[0]], "reason": "a test"});
    let answer = post(&broker, "/discard", &asked).await;
    assert_eq!((answer.status, answer.message()), (202, "Discarded: 1 of 2"), "{}", answer.body);
    assert_eq!(answer.body["data"]["discarded"], json!([foreign]));
    assert_eq!(answer.body["data"]["failed"][0]["status"], 409);
    assert_eq!(keeper.state(foreign), (LetterState::Discarded, Some("a test".to_owned())));
    testkit::rabbitmq::clean(&stand.topology).await;
}

#[tokio::test]
async fn lists_that_make_no_sense_are_refused_whole() {
    let (_stand, _keeper, broker) = on(Stand::alone()).await;
    let many = vec![Uuid::nil(); 201];
    let list = "ids must be a list of 1 to 200 UUIDs";
    for (path, body, expected) in [
        ("/replay", json!({}), format!("replay: {list}")),
        ("/replay", json!({"ids": []}), format!("replay: {list}")),
        ("/replay", json!({"ids": many}), format!("replay: {list}")),
        (
            "/replay",
            json!({"ids": [Uuid::nil(), 7, "x"]}),
            "replay: ids[1] must be a UUID; ids[2] must be a UUID".to_owned(),
        ),
        ("/replay", json!([]), "replay: replay must be an object, not a list".to_owned()),
        ("/discard", json!({}), format!("discard: {list}; reason is required")),
    ] {
        let answer = post(&broker, path, &body).await;
        assert_eq!((answer.status, answer.message()), (422, expected.as_str()), "{body}");
    }
    assert_eq!(get(&broker, "/replay").await.status, 405);
}

#[tokio::test]
async fn a_logger_that_is_away_is_named_everywhere() {
    let broker = Stand::alone().start().await;
    let path = format!("/{}", Uuid::nil());
    let reason = json!({"reason": "r"});
    for answer in [
        get(&broker, "").await,
        get(&broker, &path).await,
        replay(&broker, Uuid::nil()).await,
        post(&broker, &format!("{path}/discard"), &reason).await,
    ] {
        let message = "the logger is not available, try again shortly";
        assert_eq!((answer.status, answer.message(), answer.header("retry-after")), (503, message, "1"));
    }
}
