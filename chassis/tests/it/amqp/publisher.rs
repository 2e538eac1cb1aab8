//! Publishing.

use std::time::{Duration, Instant};

use chassis::amqp::{PublishError, Publisher};
use chassis::http::Answer;
use futures_util::future::join_all;
use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use testkit::{Running, eventually};

use super::rabbit::{Rabbit, SOON, event};

pub(super) async fn publisher(rabbit: &Rabbit) -> (Running, Publisher) {
    let mut started = None;
    let running = Running::start(async |lifecycle| {
        started = Some(Publisher::start(&rabbit.url, rabbit.topology.clone(), &lifecycle)?);
        Ok(())
    })
    .await;
    (running, started.unwrap())
}

#[tokio::test]
async fn a_confirmed_event_is_in_the_queue() {
    let rabbit = Rabbit::start().await;
    let (running, publisher) = publisher(&rabbit).await;
    let mut event = event("hello");
    event.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    publisher.publish(&rabbit.topology.events, "log.info", &event).await.unwrap();
    let message = rabbit.take(&rabbit.topology.log_queue).await.delivery;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&message.data).unwrap(), serde_json::json!(event));
    let properties = &message.properties;
    assert_eq!(properties.delivery_mode(), &Some(2));
    assert_eq!(properties.content_type(), &Some("application/cloudevents+json".into()));
    assert_eq!(properties.message_id(), &Some(event.id.to_string().into()));
    let headers = properties.headers().clone().unwrap();
    let traceparent = headers.inner()["traceparent"].as_long_string().unwrap().to_string();
    assert_eq!(Some(traceparent), event.traceparent);
    running.stop().await;
    rabbit.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_publisher_of_a_message_without_a_queue_is_told_so() {
    let rabbit = Rabbit::start().await;
    let (running, publisher) = publisher(&rabbit).await;
    rabbit.publishes(&publisher).await;
    let (publisher, topology) = (&publisher, &rabbit.topology);
    let published = join_all((0..2000).map(|i| async move {
        let key = if i % 7 == 3 { "nobody.cares" } else { "log.info" };
        (key, publisher.publish(&topology.events, key, &event("x")).await)
    }))
    .await;
    for (key, result) in published {
        match (key, result) {
            ("log.info", Ok(())) | ("nobody.cares", Err(PublishError::Returned)) => {}
            (key, result) => panic!("{key}: {result:?}"),
        }
    }
    running.stop().await;
    rabbit.clean().await;
}

/// How many messages the queue of the next test takes.
const FULL: usize = 5;

/// A queue of the test's own that refuses what is too much, for everything `full.…`. It goes with the test's connection.
async fn small_queue(rabbit: &Rabbit) -> String {
    let name = rabbit.topology.log_queue.replace("log", "small");
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(i64::try_from(FULL).unwrap()));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let channel = rabbit.channel().await;
    channel.queue_declare(name.as_str().into(), options, arguments).await.unwrap();
    let (exchange, key) = (rabbit.topology.events.as_str().into(), "full.*".into());
    let options = QueueBindOptions::default();
    channel.queue_bind(name.as_str().into(), exchange, key, options, FieldTable::default()).await.unwrap();
    name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_publisher_of_a_message_that_a_queue_refuses_is_told_so() {
    let rabbit = Rabbit::start().await;
    let (running, publisher) = publisher(&rabbit).await;
    rabbit.publishes(&publisher).await;
    let small = small_queue(&rabbit).await;
    let (publisher, topology) = (&publisher, &rabbit.topology);
    let published = join_all((0..700).map(|i| async move {
        let key = if i % 7 == 3 { "full.up" } else { "log.info" };
        (key, publisher.publish(&topology.events, key, &event("x")).await)
    }))
    .await;
    let (mut taken, mut refused) = (0, 0);
    for (key, result) in published {
        match (key, result) {
            ("log.info", Ok(())) => {}
            ("full.up", Ok(())) => taken += 1,
            ("full.up", Err(error @ PublishError::Nacked)) => {
                assert_eq!(Answer::from(error).status().as_u16(), 503);
                refused += 1;
            }
            (key, result) => panic!("{key}: {result:?}"),
        }
    }
    assert_eq!(taken + refused, 100);
    assert!(refused > 0);
    // What was confirmed is there, and nothing that was refused.
    rabbit.counts(&small, taken).await;
    // With room again, the same is confirmed.
    let purge = QueuePurgeOptions::default();
    rabbit.channel().await.queue_purge(small.as_str().into(), purge).await.unwrap();
    publisher.publish(&topology.events, "full.up", &event("x")).await.unwrap();
    running.stop().await;
    rabbit.clean().await;
}

#[tokio::test]
async fn it_finds_a_server_that_went_and_came_back() {
    let rabbit = Rabbit::start().await;
    let (running, publisher) = publisher(&rabbit).await;
    rabbit.publishes(&publisher).await;
    for _ in 0..3 {
        rabbit.proxy.cut();
        let error = eventually(SOON, "readiness to fail", || async {
            publisher.check().await.err().ok_or("still ready")?;
            rabbit.publish(&publisher).await.err().ok_or("published")
        })
        .await;
        assert!(matches!(error, PublishError::Unavailable(_)), "{error:?}");
        let answer = Answer::from(error);
        assert_eq!(
            (answer.status().as_u16(), answer.message()),
            (503, "RabbitMQ is not available, try again shortly")
        );
        rabbit.proxy.restore();
        let back = Instant::now();
        rabbit.publishes(&publisher).await;
        assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
    }
    running.stop().await;
    rabbit.clean().await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_an_error_in_time() {
    let rabbit = Rabbit::start().await;
    let (running, publisher) = publisher(&rabbit).await;
    rabbit.publishes(&publisher).await;
    rabbit.proxy.stall();
    let started = Instant::now();
    let results = join_all((0..10).map(|_| rabbit.publish(&publisher))).await;
    assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
    for result in results {
        let answer = Answer::from(result.unwrap_err());
        assert_eq!(
            (answer.status().as_u16(), answer.message()),
            (503, "RabbitMQ is not available, try again shortly")
        );
    }
    rabbit.proxy.restore();
    rabbit.publishes(&publisher).await;
    running.stop().await;
    rabbit.clean().await;
}

#[tokio::test]
async fn whose_confirm_never_comes_is_told_so_in_time_and_may_publish_the_same_again() {
    let rabbit = Rabbit::start().await;
    let (running, publisher) = publisher(&rabbit).await;
    let (exchange, queue) = (&rabbit.topology.events, &rabbit.topology.log_queue);
    rabbit.publishes(&publisher).await;
    let purge = QueuePurgeOptions::default();
    rabbit.channel().await.queue_purge(queue.as_str().into(), purge).await.unwrap();
    let event = event("unconfirmed");
    rabbit.proxy.mute();
    let started = Instant::now();
    let error = publisher.publish(exchange, "log.info", &event).await.unwrap_err();
    assert!(matches!(error, PublishError::TooSlow), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
    assert_eq!(Answer::from(error).status().as_u16(), 503);
    // RabbitMQ has it all the same.
    rabbit.counts(queue, 1).await;
    rabbit.proxy.restore();
    eventually(SOON, "a confirm", || publisher.publish(exchange, "log.info", &event)).await;
    // Whoever consumes it knows it by its id.
    for _ in 0..2 {
        let id = rabbit.take(queue).await.delivery.properties.message_id().clone();
        assert_eq!(id, Some(event.id.to_string().into()));
    }
    running.stop().await;
    rabbit.clean().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_at_the_start_is_waited_for() {
    let rabbit = Rabbit::start().await;
    rabbit.proxy.cut();
    let (running, publisher) = publisher(&rabbit).await;
    let error = rabbit.publish(&publisher).await.unwrap_err();
    assert!(matches!(error, PublishError::Unavailable(_)), "{error:?}");
    rabbit.proxy.restore();
    rabbit.publishes(&publisher).await;
    running.stop().await;
    rabbit.clean().await;
}

#[tokio::test]
async fn the_exchanges_outlast_a_restart_of_the_server() {
    let rabbit = Rabbit::start().await;
    let (running, publisher) = publisher(&rabbit).await;
    rabbit.publishes(&publisher).await;
    let (topology, channel) = (&rabbit.topology, rabbit.channel().await);
    for name in [&topology.events, &topology.logs_topic] {
        // It would be refused if it stood with other properties.
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let kind = lapin::ExchangeKind::Topic;
        channel.exchange_declare(name.as_str().into(), kind, options, FieldTable::default()).await.unwrap();
    }
    running.stop().await;
    rabbit.clean().await;
}

#[tokio::test]
async fn a_queue_that_stands_with_other_arguments_is_named_until_it_is_gone() {
    let rabbit = Rabbit::start().await;
    let queue = rabbit.topology.log_queue.as_str();
    let channel = rabbit.channel().await;
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();
    let (running, publisher) = publisher(&rabbit).await;
    let error = eventually(SOON, "the mismatch", || async {
        publisher.check().await.err().filter(|error| error != "not connected yet").ok_or("ready")
    })
    .await;
    assert!(
        error.contains(queue) && error.contains("inequivalent arg") && error.contains("delete it"),
        "{error}"
    );
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    rabbit.publishes(&publisher).await;
    running.stop().await;
    rabbit.clean().await;
}

#[tokio::test]
async fn a_deleted_queue_is_there_again_for_a_later_message() {
    let rabbit = Rabbit::start().await;
    let (running, publisher) = publisher(&rabbit).await;
    rabbit.publishes(&publisher).await;
    let queue = rabbit.topology.log_queue.as_str();
    rabbit.channel().await.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    assert!(matches!(rabbit.publish(&publisher).await, Err(PublishError::Returned)));
    rabbit.publishes(&publisher).await;
    running.stop().await;
    rabbit.clean().await;
}

#[tokio::test]
async fn what_is_in_flight_at_a_stop_is_still_confirmed() {
    let rabbit = Rabbit::start().await;
    let (running, publisher) = publisher(&rabbit).await;
    rabbit.publishes(&publisher).await;
    let (publisher, rabbit) = (&publisher, &rabbit);
    let publishing = join_all((0..200).map(|_| async move { rabbit.publish(publisher).await }));
    let (results, ()) = tokio::join!(publishing, running.stop());
    for result in results {
        result.unwrap();
    }
    assert!(rabbit.publish(publisher).await.is_err());
    testkit::rabbitmq::clean(&rabbit.topology).await;
}
