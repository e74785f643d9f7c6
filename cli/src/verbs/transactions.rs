//! `tidegate transactions`: what the transactional ids of Kafka sinks hold. The brokers are asked, and no jobmanager: it is for the
//! time when no job runs, too.

use std::collections::BTreeSet;

use serde::Serialize;
use tidegate_connectors::Kafka;
use tidegate_connectors::kafka::{BlockedPartition, PublishedOutput};
use tidegate_protocol::{Error, Result};

use crate::options::{Format, TransactionsAbortOptions, TransactionsListOptions};
use crate::output::{Table, answer, answer_json, say};

#[derive(Serialize)]
struct Listed {
    published: Vec<PublishedOutput>,
    blocked: Vec<BlockedPartition>,
}

/// Lists what is published under transactional ids, and the partitions whose readers wait.
pub(crate) fn list(options: &TransactionsListOptions, format: Format) -> Result<()> {
    let kafka = Kafka::new(options.kafka.kafka.clone());
    let prefix = match options.job {
        Some(job) => format!("{}.{job}", options.prefix),
        None => options.prefix.clone(),
    };
    let published = kafka.published(&prefix)?;
    let topics: BTreeSet<_> = published.iter().map(|output| output.topic.clone()).collect();
    let blocked = kafka.blocked(&topics.into_iter().collect::<Vec<_>>())?;
    if format == Format::Json {
        return answer_json(&Listed { published, blocked }).map(drop);
    }
    if published.is_empty() {
        say(format_args!("Nothing is published under transactional ids that begin with '{prefix}.'."));
    } else {
        answer(table(&published))?;
    }
    for BlockedPartition { topic, partition, last_stable_offset, high_watermark } in blocked {
        say(format_args!(
            "Readers of committed messages wait at offset {last_stable_offset} of partition {partition} of {topic}, which ends at \
             {high_watermark}: a transaction is open. If it stays so and one of these ids has begun it, 'tidegate transactions \
             abort ID' ends it; that of another program Kafka's kafka-transactions.sh."
        ));
    }
    Ok(())
}

fn table(published: &[PublishedOutput]) -> Table {
    let mut table = Table::new(["TRANSACTIONAL ID", "TOPIC", "EPOCH", "ATTEMPT", "MESSAGES"]);
    for PublishedOutput { transactional_id, topic, epoch, attempt, done, messages } in published {
        let count = if done == messages { messages.to_string() } else { format!("{done} of {messages}") };
        table.row([transactional_id.clone(), topic.clone(), epoch.to_string(), attempt.to_string(), count]);
    }
    table
}

/// Aborts the transactions of ids that are open.
pub(crate) fn abort(options: &TransactionsAbortOptions, format: Format) -> Result<()> {
    let kafka = Kafka::new(options.kafka.kafka.clone());
    // Brokers take any id, also one that nobody has.
    let is_whole = |id: &&String| id.split('.').count() >= 4;
    if let Some(id) = options.ids.iter().find(|id| !is_whole(id)) {
        return Err(Error::job(format!(
            "'{id}' is no transactional id of a sink, which is PREFIX.JOB.SINK.SLOT: 'tidegate transactions list' shows them. \
             That of another program is ended by Kafka's kafka-transactions.sh"
        )));
    }
    for id in &options.ids {
        kafka.abort_transaction(id)?;
        if format != Format::Json {
            say(format_args!("No transaction of {id} is open any more."));
        }
    }
    if format == Format::Json {
        answer_json(&options.ids)?;
    }
    Ok(())
}
