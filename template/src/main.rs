//! Reports, for every page and minute, how many requests were slow and how long the slowest took.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate::aggregates::{Count, Max};
use tidegate::{Job, Result, Stream, Tumbling, Watermarks};
use tidegate_connectors::FileLog;

#[global_allocator]
static ALLOCATOR: tidegate::MiMalloc = tidegate::MiMalloc;

/// A record of the input: one line of JSON.
#[derive(Clone, Deserialize, Serialize)]
struct Request {
    page: String,
    /// Milliseconds since the Unix epoch.
    at: i64,
    took_ms: u64,
}

/// A record of the output.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct SlowPage {
    page: String,
    /// The start of the minute, in milliseconds since the Unix epoch.
    minute: i64,
    requests: u64,
    slowest_ms: u64,
}

/// Reports which pages were slow, minute by minute
#[derive(clap::Args)]
struct Args {
    /// The directory of the requests: files part-*.jsonl.
    #[arg(long)]
    input: PathBuf,
    /// The directory of the slow pages.
    #[arg(long)]
    output: PathBuf,
    /// A request that takes longer than this is slow, in milliseconds.
    #[arg(long, default_value_t = 500)]
    slow_ms: u64,
}

fn main() -> Result<()> {
    tidegate::main("{{job}}", build)
}

/// Describes the dataflow. It is called once on every worker, and must describe the same one each time.
fn build(job: &mut Job, args: &Args) -> Result<()> {
    let requests = job.source("requests", FileLog::partitions(&args.input).json());
    slow_pages(requests, args.slow_ms).sink("slow_pages", FileLog::sink(&args.output).json());
    Ok(())
}

/// The closures of the steps live longer than `build`, so they cannot borrow from its `args`: `move` moves a copy of what
/// they need into them.
fn slow_pages(requests: Stream<Request>, slow_ms: u64) -> Stream<SlowPage> {
    requests
        .filter(move |request| request.took_ms > slow_ms)
        .named("fast")
        .event_time(|request| request.at, Watermarks::bounded(Duration::from_secs(5)))
        .key_by(|request| &request.page)
        .window(Tumbling::of(Duration::from_secs(60)))
        .aggregate("slowness", (Count, Max::of(|request: &Request| request.took_ms)))
        .map(|result| {
            let (requests, slowest_ms) = result.value;
            SlowPage { page: result.key, minute: result.window.start, requests, slowest_ms }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate::testing::{TestJob, VecSink, VecSource};

    #[test]
    fn slow_requests_are_counted_by_page_and_minute() -> Result<()> {
        let request = |page: &str, at, took_ms| Request { page: page.to_owned(), at, took_ms };
        let requests = VecSource::of([
            request("/search", 1_000, 740),
            request("/search", 2_000, 90),
            request("/search", 3_000, 1_350),
            request("/search", 61_000, 660),
        ]);
        let out = VecSink::new();
        let sink = out.clone();
        let job = TestJob::new(move |job| {
            slow_pages(job.source("requests", requests.clone()), 500).sink("slow_pages", sink.clone());
            Ok(())
        });
        let totals = job.parallelism(2).run()?;
        assert_eq!((totals.rows_in, totals.dropped["fast"]), (4, 1));
        let slow = |minute, requests, slowest_ms| SlowPage {
            page: "/search".to_owned(),
            minute,
            requests,
            slowest_ms,
        };
        assert_eq!(out.records(), [slow(0, 2, 1_350), slow(60_000, 1, 660)]);
        Ok(())
    }
}
