//! A listener with a RabbitMQ and a logger that the test can break.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser as _;
use contracts::dead_letter::Letter;
use contracts::log::Entry;
use contracts::logger::{AppendError, LoggerRequest, LoggerResponse, Stored};
use contracts::topology::Topology;
use contracts::trail::Step;
use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use listener::Config;
use testkit::http::Response;
use testkit::proxy::FaultProxy;
use testkit::{Running, eventually, setting};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use crate::mailer::Mailer;

/// How long anything may take that is to happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// How many messages a listener has in hand: as many as it takes before it knows how large they are.
pub(crate) const PREFETCH: u32 = 32;

/// How long a mail waits after each attempt.
pub(crate) const DELAYS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(200)];

/// The name of an entry that kills the logger, and the message id of a letter that does.
pub(crate) const FATAL: &str = "fatal";
/// The name of an entry that kills the logger once it is stored.
pub(crate) const FATAL_AFTER: &str = "fatal after";
/// The name of an entry at which the logger makes a mistake.
pub(crate) const MISTAKE: &str = "mistake";

/// What the logger says of everything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Stores,
    LacksMongo,
}

/// A logger that keeps what it is given; it refuses entries called `refused`, dies of some, and fails at others.
#[derive(Clone)]
pub(crate) struct Logger {
    wire: Arc<FaultProxy>,
    /// How often it dies before it does no more.
    deaths: Arc<AtomicU32>,
    stored: Arc<Mutex<HashMap<Uuid, Entry>>>,
    steps: Arc<Mutex<HashMap<Uuid, Step>>>,
    /// How often steps were told, kept or not.
    told: Arc<AtomicU32>,
    letters: Arc<Mutex<HashMap<Uuid, Letter>>>,
    mood: Arc<Mutex<Mood>>,
    /// A call is answered when it gets a permit.
    gate: Arc<Semaphore>,
}

/// How many calls may be answered at once: all.
const GATE: u32 = 1000;

impl Logger {
    async fn start() -> Self {
        let (listener, address) = bind().await;
        let wire = Arc::new(FaultProxy::start(address).await);
        let (stored, mood) = (Arc::default(), Arc::new(Mutex::new(Mood::Stores)));
        let (steps, letters) = (Arc::default(), Arc::default());
        let gate = Arc::new(Semaphore::new(GATE as usize));
        let deaths = Arc::new(AtomicU32::new(u32::MAX));
        let told = Arc::default();
        let logger = Self { wire, deaths, stored, steps, told, letters, mood, gate };
        let handling = logger.clone();
        let handler = move |_: SocketAddr, _: tarpc::context::Context, request: LoggerRequest| {
            let logger = handling.clone();
            async move {
                let _permit = logger.gate.acquire().await;
                if logger.dies_of(&request) {
                    logger.wire.reset();
                    std::future::pending::<()>().await;
                }
                Ok(match request {
                    LoggerRequest::Append { entry } => LoggerResponse::Append(logger.append(entry)),
                    LoggerRequest::AppendAll { entries } => LoggerResponse::AppendAll(
                        entries.into_iter().map(|entry| logger.append(entry)).collect(),
                    ),
                    LoggerRequest::Record { steps } => {
                        logger.told.fetch_add(1, Ordering::SeqCst);
                        LoggerResponse::Record(
                            steps.into_iter().map(|step| logger.keep(&logger.steps, step.id, step)).collect(),
                        )
                    }
                    LoggerRequest::Bury { letters } => LoggerResponse::Bury(
                        letters
                            .into_iter()
                            .map(|letter| logger.keep(&logger.letters, letter.id, letter))
                            .collect(),
                    ),
                })
            }
        };
        let limits = chassis::rpc::server::Limits::default();
        tokio::spawn(chassis::rpc::server::serve(listener, CancellationToken::new(), limits, handler));
        logger
    }

    fn dies_of(&self, request: &LoggerRequest) -> bool {
        let fatal = match request {
            LoggerRequest::AppendAll { entries } => entries.iter().any(|entry| {
                if entry.name == FATAL_AFTER {
                    self.append(entry.clone()).unwrap();
                }
                [FATAL, FATAL_AFTER].contains(&entry.name.as_str())
            }),
            LoggerRequest::Bury { letters } => {
                letters.iter().any(|letter| letter.message_id.as_deref() == Some(FATAL))
            }
            LoggerRequest::Append { .. } | LoggerRequest::Record { .. } => false,
        };
        let left = |left: u32| left.checked_sub(1);
        fatal && self.deaths.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok()
    }

    /// It dies so often at most.
    pub(crate) fn dies(&self, times: u32) {
        self.deaths.store(times, Ordering::SeqCst);
    }

    fn append(&self, entry: Entry) -> Result<Stored, AppendError> {
        assert_ne!(entry.name, MISTAKE, "a mistake");
        if entry.name == "refused" {
            return Err(AppendError::Refused("not this one".to_owned()));
        }
        self.keep(&self.stored, entry.id, entry)
    }

    fn keep<T>(&self, kept: &Mutex<HashMap<Uuid, T>>, id: Uuid, item: T) -> Result<Stored, AppendError> {
        match *self.mood.lock().unwrap() {
            Mood::LacksMongo => Err(AppendError::Unavailable("MongoDB".to_owned())),
            Mood::Stores => match kept.lock().unwrap().insert(id, item) {
                None => Ok(Stored::Created),
                Some(_) => Ok(Stored::Already),
            },
        }
    }

    /// The letters that were kept, the oldest first.
    pub(crate) fn letters(&self) -> Vec<Letter> {
        let mut letters: Vec<_> = self.letters.lock().unwrap().values().cloned().collect();
        letters.sort_by_key(|letter| letter.died_at);
        letters
    }

    /// Waits until it is told a step, whatever it says to it.
    pub(crate) async fn is_told(&self) {
        eventually(SOON, "a step", || async {
            if self.told.load(Ordering::SeqCst) > 0 { Ok(()) } else { Err("none is told") }
        })
        .await;
    }

    /// The steps of an action, the oldest first.
    pub(crate) fn steps(&self, action: Uuid) -> Vec<Step> {
        let steps = self.steps.lock().unwrap();
        let mut steps: Vec<_> = steps.values().filter(|step| step.action == action).cloned().collect();
        steps.sort_by_key(|step| (step.at, step.kind as u8));
        steps
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Answers nothing until what this gives is dropped.
    pub(crate) fn hold(&self) -> impl Drop + use<> {
        Arc::clone(&self.gate).try_acquire_many_owned(GATE).unwrap()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.stored.lock().unwrap().values().map(|entry| entry.name.clone()).collect();
        names.sort();
        names
    }

    pub(crate) async fn has(&self, count: usize) {
        eventually(SOON, "the entries", || async {
            match self.stored.lock().unwrap().len() {
                stored if stored == count => Ok(()),
                stored => Err(format!("{stored} of {count} stored")),
            }
        })
        .await;
    }

    pub(crate) async fn entry(&self, name: &str) -> Entry {
        eventually(SOON, "the entry", || async {
            let stored = self.stored.lock().unwrap();
            stored.values().find(|entry| entry.name == name).cloned().ok_or("not stored")
        })
        .await
    }
}

/// Everything of one test.
pub(crate) struct Stand {
    pub(crate) topology: Topology,
    pub(crate) rabbitmq: FaultProxy,
    pub(crate) wire: Arc<FaultProxy>,
    pub(crate) logger: Logger,
    pub(crate) mailer: Mailer,
    /// How long a listener that is started waits for the mailer.
    pub(crate) mail_timeout: &'static str,
    namespace: String,
    url: String,
    connection: Connection,
    channel: Channel,
}

/// A running listener.
pub(crate) struct Listener {
    pub(crate) running: Running,
    url: String,
}

impl Stand {
    pub(crate) async fn new() -> Self {
        Self::with(Mailer::start()).await
    }

    pub(crate) async fn with(mailer: Mailer) -> Self {
        let direct = setting("RABBITMQ_URL");
        let mut url = Url::parse(&direct).unwrap();
        let rabbitmq = FaultProxy::to(&format!("{}:{}", url.host().unwrap(), url.port().unwrap())).await;
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(rabbitmq.address().port())).unwrap();
        let logger = Logger::start().await;
        let namespace = testkit::namespace();
        let connection = Connection::connect(&direct, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self {
            topology: Topology::within(&namespace).with_delays(&namespace, &DELAYS),
            mailer,
            mail_timeout: "2s",
            rabbitmq,
            wire: Arc::clone(&logger.wire),
            logger,
            namespace,
            url: url.into(),
            connection,
            channel,
        }
    }

    /// Starts a listener.
    pub(crate) async fn start(&self) -> Listener {
        let (socket, address) = bind().await;
        let config = Config::parse_from([
            "listener".to_owned(),
            format!("--rabbitmq-url={}", self.url),
            format!("--rabbitmq-namespace={}", self.namespace),
            format!("--logger-rpc-addr={}", self.wire.address()),
            format!("--mail-service-url={}", self.mailer.url()),
            "--listener-retry-delays=100ms,200ms".to_owned(),
            format!("--mail-timeout={}", self.mail_timeout),
            format!("--listener-prefetch={PREFETCH}"),
            "--listener-batch=8".to_owned(),
        ]);
        let running =
            Running::start(async |lifecycle| listener::serve(socket, config, &lifecycle).await).await;
        Listener { running, url: format!("http://{address}") }
    }

    /// Starts a listener and waits until it consumes.
    pub(crate) async fn start_ready(&self) -> Listener {
        let listener = self.start().await;
        listener.is_ready().await;
        listener
    }

    /// Publishes as existing publishers do.
    pub(crate) async fn publish(&self, key: &str, body: &str) {
        let sent = self.send(&self.topology.logs_topic, key, body.as_bytes(), BasicProperties::default());
        sent.await;
    }

    pub(crate) async fn send(&self, exchange: &str, key: &str, body: &[u8], properties: BasicProperties) {
        let (options, properties) = (BasicPublishOptions::default(), properties.with_delivery_mode(2));
        let sent = self.channel.basic_publish(exchange.into(), key.into(), options, body, properties).await;
        sent.unwrap().await.unwrap();
    }

    /// Publishes entries called `entry 00000`, ….
    pub(crate) async fn fill(&self, from: usize, to: usize) {
        for i in from..to {
            // With an id, as only then a message that comes again is known.
            let properties = BasicProperties::default().with_message_id(format!("id-{i}").into());
            let body = format!(r#"{{"name":"entry {i:05}","data":"x"}}"#);
            self.send(&self.topology.logs_topic, "log.INFO", body.as_bytes(), properties).await;
        }
    }

    /// How many messages wait in a queue.
    pub(crate) async fn count(&self, queue: &str) -> Result<u32, String> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = self.channel().await.queue_declare(queue.into(), passive, FieldTable::default()).await;
        found.map(|queue| queue.message_count()).map_err(|error| error.to_string())
    }

    pub(crate) async fn counts(&self, queue: &str, wanted: u32) {
        eventually(SOON, "messages in the queue", || async {
            match self.count(queue).await {
                Ok(count) if count == wanted => Ok(()),
                other => Err(format!("{queue}: {other:?} instead of {wanted}")),
            }
        })
        .await;
    }

    /// The letter of the message with this id, once it is kept.
    pub(crate) async fn letter(&self, message_id: &str) -> Letter {
        self.letter_within(SOON, message_id).await
    }

    /// The same, where the message has many attempts to fail at first.
    pub(crate) async fn letter_within(&self, patience: Duration, message_id: &str) -> Letter {
        eventually(patience, "a dead letter", || async {
            let letters = self.logger.letters();
            let wanted = letters.into_iter().find(|letter| letter.message_id.as_deref() == Some(message_id));
            wanted.ok_or_else(|| format!("{message_id} is not kept"))
        })
        .await
    }

    /// A channel of one's own, past the proxy.
    pub(crate) async fn channel(&self) -> Channel {
        self.connection.create_channel().await.unwrap()
    }

    /// Waits until every queue is empty.
    pub(crate) async fn is_done(&self) {
        let Topology { log_queue, mail_queue, trail_queue, dead_queue, unreadable_queue, .. } =
            &self.topology;
        for queue in [log_queue, mail_queue, trail_queue, dead_queue, unreadable_queue] {
            self.counts(queue, 0).await;
        }
    }

    pub(crate) async fn clean(self) {
        testkit::rabbitmq::clean(&self.topology).await;
    }
}

impl Listener {
    pub(crate) async fn readyz(&self) -> Response {
        testkit::http::get(&format!("{}/readyz", self.url)).await
    }

    pub(crate) async fn is_ready(&self) {
        eventually(SOON, "readiness", || async {
            let answer = self.readyz().await;
            if answer.status == 200 { Ok(()) } else { Err(answer.body) }
        })
        .await;
    }

    /// Waits for a 503 that names `what` and nothing else.
    pub(crate) async fn lacks(&self, what: &str) {
        eventually(SOON, "a 503", || async {
            let answer = self.readyz().await;
            let named = answer.message().starts_with(&format!("not ready: {what}: "));
            if answer.status == 503 && named && !answer.message().contains(';') {
                Ok(())
            } else {
                Err(answer.body)
            }
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }
}

pub(crate) async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
