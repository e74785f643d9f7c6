//! What is known of the schemas of a registry, and the thread that asks for more.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tidegate_connector_api::Waiting;
use tidegate_protocol::{Error, Result as JobResult};
use tracing::{info, warn};

use super::Settings;
use super::client::{Client, Refusal, RegisteredSchema, SchemaType};
use crate::kafka::ReadError;

/// For how long an id that the registry did not know is not asked for again.
const UNKNOWN: Duration = Duration::from_secs(10);
/// How many of those are remembered.
const UNKNOWN_IDS: usize = 10_000;
/// How long to wait before a registry that is away is asked again: at first, and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// For how long a job that starts waits for a registry that is away.
const START: Duration = Duration::from_secs(120);

/// The schemas of a registry.
pub(in crate::kafka) struct Schemas {
    settings: Settings,
    client: OnceLock<Client>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    schemas: HashMap<u32, Lookup>,
    /// The ids of what sinks write with, by kind, subject and text.
    ids: HashMap<(&'static str, String, String), u32>,
    /// Ids for the thread that asks.
    questions: Option<Sender<u32>>,
}

enum Lookup {
    Asked,
    Found(Arc<RegisteredSchema>),
    Unknown(String, Instant),
    Failed(Error),
}

impl Schemas {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, client: OnceLock::new(), known: Mutex::default() }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn check(&self) -> JobResult<()> {
        Client::new(&self.settings).map(drop)
    }

    /// Made at the first request, so that secrets are read where the job runs.
    fn client(&self) -> JobResult<&Client> {
        match self.client.get() {
            Some(client) => Ok(client),
            None => {
                let client = Client::new(&self.settings)?;
                Ok(self.client.get_or_init(|| client))
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The schema of an id, without waiting for the registry.
    ///
    /// # Errors
    /// If it is not known yet, then or never.
    pub(in crate::kafka) fn schema(self: &Arc<Self>, id: u32) -> Result<Arc<RegisteredSchema>, ReadError> {
        let url = &self.settings.url;
        // A registry's ids are positive numbers of four bytes.
        if i32::try_from(id).is_err() {
            return Err(ReadError::Malformed(format!(
                "{id} is no id of a schema: those of {url} are positive"
            )));
        }
        let mut known = self.known();
        match known.schemas.get(&id) {
            Some(Lookup::Found(schema)) => return Ok(schema.clone()),
            Some(Lookup::Unknown(what, since)) if since.elapsed() < UNKNOWN => {
                return Err(ReadError::Malformed(format!(
                    "the schema registry {url} has no schema of the id {id}: {what}"
                )));
            }
            Some(Lookup::Failed(error)) => return Err(ReadError::Failed(error.clone())),
            Some(Lookup::Asked) => return Err(ReadError::NotYet),
            Some(Lookup::Unknown(..)) | None => {}
        }
        if known.schemas.len() > UNKNOWN_IDS {
            known.schemas.retain(|_, lookup| !matches!(lookup, Lookup::Unknown(..)));
        }
        self.question(&mut known, id).map_err(ReadError::Failed)?;
        known.schemas.insert(id, Lookup::Asked);
        Err(ReadError::NotYet)
    }

    fn question(self: &Arc<Self>, known: &mut Known, id: u32) -> JobResult<()> {
        let questions = match &known.questions {
            Some(questions) => questions,
            None => {
                let (questions, asked) = channel();
                let schemas = Arc::downgrade(self);
                std::thread::Builder::new()
                    .name("schema-registry".to_owned())
                    .spawn(move || answer(&schemas, &asked))
                    .map_err(|error| {
                        Error::environment("no thread can be started for the schema registry")
                            .caused_by(error)
                    })?;
                known.questions.insert(questions)
            }
        };
        questions.send(id).map_err(|_| Error::internal("the thread of the schema registry has ended"))
    }

    /// Asks for the schema of an id, once; whether there was an answer.
    fn look_up(&self, id: u32, outage: &mut Outage) -> bool {
        let lookup = match self.client() {
            Ok(client) => match client.schema(id) {
                Ok(schema) => Lookup::Found(Arc::new(schema)),
                Err(Refusal::Unknown(what)) => Lookup::Unknown(what, Instant::now()),
                Err(Refusal::Final(error)) => Lookup::Failed(error),
                Err(Refusal::Away(why)) => {
                    outage.is_away(&self.settings.url, &why);
                    return false;
                }
            },
            Err(error) => Lookup::Failed(error),
        };
        outage.is_over(&self.settings.url);
        self.known().schemas.insert(id, lookup);
        true
    }

    /// The id of a schema that a sink writes with: it is registered, or has to be there. Waits for a registry that is away.
    pub(super) fn id(&self, subject: &str, kind: SchemaType, text: &str) -> JobResult<u32> {
        let key = (kind.name(), subject.to_owned(), text.to_owned());
        if let Some(id) = self.known().ids.get(&key) {
            return Ok(*id);
        }
        let (url, client, began) = (&self.settings.url, self.client()?, Instant::now());
        let mut outage = Outage::default();
        let id = loop {
            let answer = match self.settings.auto_register {
                true => client.register(subject, kind, text),
                false => client.look_up(subject, kind, text),
            };
            match answer {
                Ok(id) => break id,
                Err(Refusal::Unknown(what)) => {
                    return Err(Error::job(format!(
                        "the schema registry {url} does not have the schema of the sink under the subject {subject}: {what}. Register it, \
                         or let the job do that by auto_register(true)"
                    )));
                }
                Err(Refusal::Final(error)) => {
                    return Err(error.context(format!("the schema for the subject {subject}")));
                }
                Err(Refusal::Away(why)) if began.elapsed() > START => {
                    return Err(Error::environment(format!(
                        "the schema registry {url} cannot be asked for the subject {subject} in {} s: {why}",
                        began.elapsed().as_secs()
                    )));
                }
                Err(Refusal::Away(why)) => outage.is_away(url, &why),
            }
            std::thread::sleep(outage.pause);
        };
        outage.is_over(url);
        self.known().ids.insert(key, id);
        Ok(id)
    }
}

/// Answers questions, until nobody can ask any more. An id that the registry cannot answer is asked for again behind the others: that
/// may be its fault alone.
fn answer(schemas: &Weak<Schemas>, questions: &Receiver<u32>) {
    let (mut outage, mut open) = (Outage::default(), VecDeque::new());
    while let Some(id) = open.pop_front().or_else(|| questions.recv().ok()) {
        let Some(schemas) = schemas.upgrade() else { return };
        let is_answered = schemas.look_up(id, &mut outage);
        open.extend(questions.try_iter());
        if !is_answered {
            open.push_back(id);
            drop(schemas);
            std::thread::sleep(outage.pause);
        }
    }
}

/// A time in which the registry is away: logged once when it begins, and once when it ends.
struct Outage {
    since: Option<Instant>,
    pause: Duration,
    waiting: Option<Waiting>,
}

impl Default for Outage {
    fn default() -> Self {
        Self { since: None, pause: AGAIN.0, waiting: None }
    }
}

impl Outage {
    fn is_away(&mut self, url: &str, why: &str) {
        let since = *self.since.get_or_insert_with(Instant::now);
        let shown = format!("the schema registry {url}: {why}");
        match &self.waiting {
            None => {
                self.waiting = Some(Waiting::since(since, shown));
                warn!(target: "kafka", "the schema registry {url} cannot be asked: {why}; messages with schemas that are not known yet \
                                        wait, and it is asked again until it answers");
            }
            Some(waiting) => {
                waiting.set(shown);
                self.pause = (2 * self.pause).min(AGAIN.1);
            }
        }
    }

    fn is_over(&mut self, url: &str) {
        if let Some(since) = self.since {
            info!(target: "kafka", "the schema registry {url} answers again, after {} s", since.elapsed().as_secs());
            *self = Self::default();
        }
    }
}
