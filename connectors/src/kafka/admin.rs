//! What programs around a job ask of the brokers: generators, demos, checks of an installation.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode as Code;
use tidegate_protocol::{Error, Result};

use super::Kafka;
use super::client::{DEFAULTS, Logging, remedy};
use super::consumer::Consumer;

/// How long the brokers may take.
const PATIENCE: Duration = Duration::from_secs(30);

impl Kafka {
    /// The settings for a client of `rdkafka` of one's own, with secrets read from where they are.
    ///
    /// # Errors
    /// If `bootstrap.servers` is missing, or a secret cannot be read.
    pub fn client_config(&self) -> Result<ClientConfig> {
        self.settings.check_brokers()?;
        self.settings.config(&DEFAULTS, &[])
    }

    /// The number of a topic's partitions; None if there is no such topic, at once.
    ///
    /// # Errors
    /// If the brokers do not answer, or the topic may not be seen.
    pub fn partitions(&self, topic: &str) -> Result<Option<usize>> {
        let found = Consumer::new(&self.settings)?.partitions_now(topic);
        found.map_err(|error| {
            let brokers = self.settings.brokers();
            Error::environment(format!("cannot ask the brokers {brokers} for the topic {topic}"))
                .caused_by(error)
        })
    }

    /// Makes a topic; false if there is one already. Without a number of replicas there are as many as the brokers make by themselves
    /// (`default.replication.factor`).
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create_topic(
        &self,
        topic: &str,
        partitions: usize,
        replicas: Option<u32>,
        settings: &[(&str, &str)],
    ) -> Result<bool> {
        let (admin, options) = self.admin()?;
        let replicas = TopicReplication::Fixed(replicas.map_or(-1, |replicas| replicas as i32));
        let mut new = NewTopic::new(topic, partitions as i32, replicas);
        for (key, value) in settings {
            new = new.set(key, value);
        }
        let failed =
            || Error::environment(format!("the topic {topic} cannot be made at {}", self.settings.brokers()));
        let made =
            block_on(admin.create_topics([&new], &options)).map_err(|error| failed().caused_by(error))?;
        match made.into_iter().next() {
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => Err(Error::environment(format!("{}: {code}{}", failed(), remedy(code)))),
            Some(Ok(_)) | None => Ok(true),
        }
    }

    /// Deletes a topic; false if there is none.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub fn delete_topic(&self, topic: &str) -> Result<bool> {
        let (admin, options) = self.admin()?;
        let failed = || {
            Error::environment(format!("the topic {topic} cannot be deleted at {}", self.settings.brokers()))
        };
        let deleted =
            block_on(admin.delete_topics(&[topic], &options)).map_err(|error| failed().caused_by(error))?;
        match deleted.into_iter().next() {
            Some(Err((_, Code::UnknownTopic | Code::UnknownTopicOrPartition))) => Ok(false),
            Some(Err((_, code))) => Err(Error::environment(format!("{}: {code}{}", failed(), remedy(code)))),
            Some(Ok(_)) | None => Ok(true),
        }
    }

    fn admin(&self) -> Result<(AdminClient<Logging>, AdminOptions)> {
        let admin = self.settings.client(&DEFAULTS, &[], Logging::default())?;
        Ok((admin, AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))))
    }
}

/// Waits for an answer on this thread; the client has threads of its own.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut future, mut context) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
