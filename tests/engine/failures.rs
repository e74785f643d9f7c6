//! What user code can do wrong: the run ends with a message that names the place, and nothing of that epoch is seen.

use tidegate::connector::{
    Owner, PartitionStatus, Polled, Position, Publisher, SinkId, SinkPlace, SinkTarget, Source, SourceReader,
    StagedOutput, Staging, TransactionalSink, Writer,
};
use tidegate::protocol::{Epoch, Slot};
use tidegate::testing::{Discard, TestJob, TestSource, VecSink, VecSource};
use tidegate::{
    Aggregate, Context, Either, Error, KeyedProcess, Result, Stream, Timer, Tumbling, Watermarks,
};

use crate::events::ms;

/// The number that steps stumble over, at offset 3 of its partition.
const BAD: i64 = 66;

#[test]
fn a_panic_in_the_description_of_the_job_says_so() {
    let job = TestJob::new(|job| {
        let limits: Vec<i64> = Vec::new();
        let first = limits[0];
        job.source("numbers", VecSource::of([first])).sink("out", Discard::named("out"));
        Ok(())
    });
    let error = job.run().unwrap_err().to_string();
    assert!(error.starts_with("the function that describes the job: panicked"), "{error}");
    assert!(error.contains("index out of bounds"), "{error}");
}

/// Sets a timer for every record.
struct Reminder;

impl KeyedProcess for Reminder {
    type Key = i64;
    type In = i64;
    type State = ();
    type Out = i64;
    type Side = ();

    fn on_record(&mut self, n: i64, context: &mut Context<'_, Self>) -> Result<()> {
        context.timers.set(Timer::event(n + 10));
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, context: &mut Context<'_, Self>) -> Result<()> {
        context.out.emit(timer.at);
        Ok(())
    }
}

#[test]
fn a_timer_of_event_time_that_would_never_fire_ends_the_job() {
    let source = TestSource::followed(1);
    let from = source.clone();
    let job = TestJob::new(move |job| {
        let numbers = job.source("numbers", from.clone()).key_by(|n| n);
        numbers.process("reminder", Reminder).sink("out", Discard::named("out"));
        Ok(())
    });
    let running = job.start();
    source.push(0, 1);
    let error = running.wait().unwrap_err().to_string();
    for part in
        ["step 'reminder'", "would never fire", "source 'numbers'", ".event_time(..)", "Timer::processing"]
    {
        assert!(error.contains(part), "{error}");
    }
}

/// Sets a timer for every record of two streams.
struct ReminderOfBoth;

impl KeyedProcess for ReminderOfBoth {
    type Key = i64;
    type In = Either<i64, i64>;
    type State = ();
    type Out = i64;
    type Side = ();

    fn on_record(&mut self, _: Self::In, context: &mut Context<'_, Self>) -> Result<()> {
        context.timers.set(Timer::event(10));
        Ok(())
    }
}

#[test]
fn a_timer_of_event_time_beside_records_without_event_time_ends_the_job_though_the_input_is_bounded() {
    let job = TestJob::new(|job| {
        let timed = job.source("timed", VecSource::of([1])).event_time(|n| *n, Watermarks::monotonous());
        let untimed = job.source("untimed", VecSource::of([1]).called("untimed"));
        let both = timed.key_by(|n| n).connect(untimed.key_by(|n| n));
        both.process("reminder", ReminderOfBoth).sink("out", Discard::named("out"));
        Ok(())
    });
    let error = job.run().unwrap_err().to_string();
    for part in ["step 'reminder'", "would never fire before the end of the input", "source 'untimed'"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_timer_of_event_time_fires_at_the_end_of_a_bounded_input_without_event_time() {
    let out = VecSink::new();
    let to = out.clone();
    let job = TestJob::new(move |job| {
        let numbers = job.source("numbers", VecSource::of([1, 2])).key_by(|n| n);
        numbers.process("reminder", Reminder).sink("out", to.clone());
        Ok(())
    });
    job.run().unwrap();
    assert_eq!(out.sorted(), [11, 12]);
}

/// Runs `steps` until a first epoch is published, sends the bad number, and returns the message that the run ends with.
fn message<T, F>(workers: usize, steps: F) -> String
where
    T: Clone + Send + 'static,
    F: Fn(Stream<i64>) -> Stream<T> + Send + Sync + 'static,
{
    let (source, out) = (TestSource::new(1), VecSink::new());
    let (from, to) = (source.clone(), out.clone());
    let job = TestJob::new(move |job| {
        let numbers = job.source("numbers", from.clone());
        steps(numbers.event_time(|n| *n, Watermarks::monotonous())).sink("out", to.clone());
        Ok(())
    });
    let job = job.parallelism(workers);
    let running = job.start();
    source.extend(0, [1, 2, 3]);
    running.checkpoint();
    let published = out.records().len();
    source.extend(0, [BAD, 100]);
    source.end();
    let error = running.wait().expect_err("the bad number is not survived").to_string();
    assert_eq!(out.records().len(), published, "something of the failed epoch was published");
    // The next attempt meets the same number again, and publishes as little.
    assert!(job.run().is_err());
    assert_eq!(out.records().len(), published);
    error
}

fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

fn stumble(n: i64) -> i64 {
    assert!(n != BAD, "stumbled over {n}");
    n
}

/// Where every step before the first exchange is.
const PLACE: &[&str] = &["partition 'partition-0', offset 3", "panicked", "stumbled over 66"];

#[test]
fn a_panic_before_an_exchange_names_step_partition_and_offset() {
    let named = |step: &str, text: String| {
        says(&text, &[&format!("step '{step}'")]);
        says(&text, PLACE);
    };
    for workers in 1..=2 {
        named("double", message(workers, |s| s.map(stumble).named("double")));
        named("positive", message(workers, |s| s.filter(|n| stumble(*n) > 0).named("positive")));
        named("each", message(workers, |s| s.flat_map(|n| Some(stumble(n))).named("each")));
        // What it has given so far has gone through the next step by then.
        let lazy = |n| (0..300).map(move |i| if i == 299 { stumble(n) } else { n });
        named("lazy", message(workers, move |s| s.flat_map(lazy).named("lazy").map(|n| n + 1)));
        named("some", message(workers, |s| s.filter_map(|n| Some(stumble(n))).named("some")));
        named("look", message(workers, |s| s.inspect(|n| assert!(stumble(*n) > 0)).named("look")));
        named("sides", message(workers, |s| s.split(|n| Ok::<_, ()>(stumble(n))).0.named("sides")));
        named("parse", message(workers, |s| s.try_map("parse", |n| Ok::<_, Error>(stumble(*n)))));
    }
}

#[test]
fn an_error_of_a_parsing_step_names_step_partition_and_offset() {
    let text = message(1, |s| s.try_map("parse", |n| if *n == BAD { Err("no good number") } else { Ok(*n) }));
    says(&text, &["step 'parse', partition 'partition-0', offset 3", "no good number"]);
}

#[test]
fn a_panic_in_a_key_names_the_step_that_reads_it() {
    for workers in 1..=2 {
        let text = message(workers, |s| {
            s.key_by_value(|n| stumble(*n)).aggregate("count", tidegate::aggregates::Count).map(|c| c.0)
        });
        says(&text, &["step 'count'"]);
        says(&text, PLACE);
    }
    // The key of a stream that is connected with another, in the middle of a batch.
    let job = TestJob::new(|job| {
        let left = job.source("left", VecSource::of([1, 2, 3, BAD, 5])).key_by_value(|n| stumble(*n));
        let right = job.source("right", VecSource::of([1])).key_by(|n| n);
        left.connect(right).process("both", Pass).sink("out", Discard::named("out"));
        Ok(())
    });
    let text = job.run().unwrap_err().to_string();
    says(&text, &["step 'both'"]);
    says(&text, PLACE);
}

/// Lets everything through.
struct Pass;

impl KeyedProcess for Pass {
    type Key = i64;
    type In = Either<i64, i64>;
    type State = ();
    type Out = i64;
    type Side = ();

    fn on_record(&mut self, _: Either<i64, i64>, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.out.emit(*cx.key);
        Ok(())
    }
}

#[test]
fn a_panic_behind_an_exchange_names_the_step_the_key_and_the_event_time() {
    let cause = ["panicked", "stumbled over 66"];
    let keyed = |text: &str, step: &str, event_time: i64| {
        says(text, &[&format!("step '{step}', key [7,\"b\"], record with event time {event_time}")]);
        says(text, &cause);
    };
    let key = |_: &i64| (7u8, "b".to_owned());
    let moved = message(2, |s| s.rebalance().map(stumble).named("moved"));
    says(&moved, &["step 'moved', record with event time 66"]);
    says(&moved, &cause);
    let reduced =
        message(2, move |s| s.key_by_value(key).reduce("sum", |sum, n| *sum += stumble(*n)).map(|r| r.1));
    keyed(&reduced, "sum", 66);
    // The key is not that of a step further down, and the step is not that of one.
    let after = message(2, move |s| {
        s.key_by_value(key).reduce("sum", |sum, n| *sum = *n).map(|r| stumble(r.1)).named("after")
    });
    says(&after, &["step 'after', record with event time 66", "stumbled over 66"]);
    let windowed = |at_end| {
        message(2, move |s| {
            let windows = s.key_by_value(key).window(Tumbling::of(ms(10)));
            windows.aggregate("sums", Stumbling { at_end }).map(|w| w.value)
        })
    };
    keyed(&windowed(false), "sums", 66);
    keyed(&windowed(true), "sums", 69);
}

#[test]
fn a_key_that_is_no_json_is_not_named() {
    // A map whose keys are no strings.
    let key = |_: &i64| std::collections::BTreeMap::from([((1u8, 2u8), 0)]);
    let text =
        message(1, move |s| s.key_by_value(key).reduce("sum", |sum, n| *sum += stumble(*n)).map(|r| r.1));
    says(&text, &["step 'sum', record with event time 66", "stumbled over 66"]);
}

/// The last number; the bad one is not survived, when it is added or when the window ends.
struct Stumbling {
    at_end: bool,
}

impl Aggregate<i64> for Stumbling {
    type Acc = i64;
    type Out = i64;

    fn create(&self) -> i64 {
        0
    }

    fn add(&self, acc: &mut i64, n: &i64) {
        *acc = if self.at_end { *n } else { stumble(*n) };
    }

    fn finish(&self, acc: &i64) -> i64 {
        stumble(*acc)
    }
}

/// How a function with state stumbles.
#[derive(Clone, Copy)]
enum How {
    Panic,
    Error,
    InTimer,
}

struct Function(How);

impl KeyedProcess for Function {
    type Key = i64;
    type In = i64;
    type State = i64;
    type Out = i64;
    type Side = ();

    fn on_record(&mut self, n: i64, cx: &mut Context<'_, Self>) -> Result<()> {
        match self.0 {
            How::Panic => cx.out.emit(stumble(n)),
            How::Error if n == BAD => return Err(Error::job("no good number")),
            How::Error => cx.out.emit(n),
            How::InTimer => cx.timers.set(Timer::event(n)),
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.out.emit(stumble(timer.at));
        Ok(())
    }
}

#[test]
fn a_function_with_state_that_fails_is_named() {
    let text = |how| message(2, move |s| s.key_by(|n| n).process("function", Function(how)));
    let place = "step 'function', key 66, record with event time 66";
    says(&text(How::Panic), &[place, "stumbled over 66"]);
    let error = text(How::Error);
    says(&error, &[place, "no good number"]);
    assert_eq!(error.matches("step 'function'").count(), 1, "{error}");
    says(&text(How::InTimer), &[place, "stumbled over 66"]);
}

/// A connector that does what its name says at the place named.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Nowhere,
    List,
    Reader,
    Open,
    Poll,
    Write,
    Writer,
    Target,
    Publisher,
    Recover,
    Stage,
    Staging,
    Publish,
}

#[derive(Clone, Copy)]
struct Bad {
    at: At,
    panics: bool,
}

impl Bad {
    fn pass(self, at: At) -> Result<()> {
        match (self.at == at, self.panics) {
            (true, true) => panic!("the connector stumbled"),
            (true, false) => Err(Error::environment("the connector stumbled")),
            (false, _) => Ok(()),
        }
    }
}

impl Source for Bad {
    type Item = i64;

    fn uri(&self) -> Result<String> {
        Ok("bad".to_owned())
    }

    fn partitions(&self) -> Result<Vec<String>> {
        self.pass(At::List)?;
        Ok(vec!["a".to_owned(), "b".to_owned()])
    }

    fn reader(&self) -> Result<Box<dyn SourceReader<i64>>> {
        self.pass(At::Reader)?;
        Ok(Box::new(*self))
    }

    fn bounded(&self) -> bool {
        true
    }

    fn follow(&mut self) {}

    fn has_more(&self, _: &str, _: &Position) -> Result<bool> {
        Ok(false)
    }
}

impl SourceReader<i64> for Bad {
    fn open(&mut self, _: &str, _: Option<&Position>) -> Result<()> {
        self.pass(At::Open)
    }

    fn poll(&mut self, _: usize, out: &mut Polled<i64>, _: usize) -> Result<PartitionStatus> {
        self.pass(At::Poll)?;
        out.record(0, 1);
        Ok(PartitionStatus::Ended)
    }

    fn position(&self, _: usize) -> Position {
        0.into()
    }
}

impl TransactionalSink<i64> for Bad {
    fn uri(&self) -> Result<String> {
        Ok("bad sink".to_owned())
    }

    fn writer(&self, _: SinkPlace) -> Result<Box<dyn Writer<i64>>> {
        self.pass(At::Writer)?;
        Ok(Box::new(*self))
    }

    fn target(&self, _: Owner) -> Result<Box<dyn SinkTarget>> {
        self.pass(At::Target)?;
        Ok(Box::new(*self))
    }

    fn publisher(&self, _: &SinkId, _: Slot) -> Result<Box<dyn Publisher>> {
        self.pass(At::Publisher)?;
        Ok(Box::new(*self))
    }
}

impl Writer<i64> for Bad {
    fn write(&mut self, _: &i64, _: Option<i64>) -> Result<()> {
        self.pass(At::Write)
    }

    fn stage(&mut self, _: Epoch) -> Result<Option<Staging>> {
        self.pass(At::Stage)?;
        let bad = *self;
        Ok(Some(Staging::elsewhere(1, 0.into(), move || bad.pass(At::Staging))))
    }
}

impl Publisher for Bad {
    fn publish(&mut self, _: Epoch, _: &[StagedOutput<'_>]) -> Result<()> {
        self.pass(At::Publish)
    }
}

impl SinkTarget for Bad {
    fn recover(&mut self, _: Option<Epoch>, _: Option<Epoch>) -> Result<Vec<String>> {
        self.pass(At::Recover)?;
        Ok(Vec::new())
    }
}

fn with_bad(at: At, panics: bool) -> Result<tidegate::Summary> {
    let bad = Bad { at, panics };
    let job = TestJob::new(move |job| {
        job.source("numbers", bad).sink("out", bad);
        Ok(())
    });
    job.parallelism(2).run()
}

const CONNECTOR: [At; 12] = [
    At::List,
    At::Reader,
    At::Open,
    At::Poll,
    At::Write,
    At::Writer,
    At::Target,
    At::Publisher,
    At::Recover,
    At::Stage,
    At::Staging,
    At::Publish,
];

#[test]
fn the_connector_is_good_if_it_does_not_stumble() {
    assert_eq!(with_bad(At::Nowhere, true).unwrap().rows_out, 2);
}

/// Where a connector stumbles, as the message says it.
fn place(at: At) -> &'static str {
    match at {
        At::Nowhere => "",
        At::List => "source 'numbers', list of partitions: ",
        At::Open | At::Poll => "step 'numbers', partition '",
        At::Write => "', offset 0: ",
        At::Reader => "step 'numbers': ",
        At::Writer => "step 'out': ",
        At::Target | At::Recover => "sink 'out': ",
        At::Publisher => "sink 'out', publisher of slot ",
        At::Stage => "step 'out', end of epoch 1: ",
        At::Staging => "stage the output of step 'out': ",
        At::Publish => "publish epoch 1 of 'out', slot ",
    }
}

fn stumbles_at_its_place(at: At, panics: bool) {
    let text = with_bad(at, panics).expect_err(&format!("{at:?}")).to_string();
    says(&text, &[place(at), "the connector stumbled"]);
    // No record is at hand while a partition is polled; a connector is not Tidegate.
    assert_eq!(text.contains("offset"), at == At::Write, "{at:?}: {text}");
    assert!(!text.contains("defect of Tidegate"), "{at:?}: {text}");
}

#[test]
fn an_error_of_a_connector_ends_the_run_and_names_the_place_wherever_it_is() {
    CONNECTOR.into_iter().for_each(|at| stumbles_at_its_place(at, false));
}

#[test]
fn a_panic_of_a_connector_ends_the_run_and_names_the_place_wherever_it_is() {
    CONNECTOR.into_iter().for_each(|at| stumbles_at_its_place(at, true));
}

/// A state that cannot be written any more once it is true.
#[derive(Default, serde::Deserialize)]
struct Unwritten(bool);

impl serde::Serialize for Unwritten {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 {
            return Err(serde::ser::Error::custom("not with me"));
        }
        serializer.serialize_newtype_struct("Unwritten", &self.0)
    }
}

struct Keeps;

impl KeyedProcess for Keeps {
    type Key = i64;
    type In = i64;
    type State = Unwritten;
    type Out = i64;
    type Side = ();

    fn on_record(&mut self, n: i64, cx: &mut Context<'_, Self>) -> Result<()> {
        *cx.state.get_mut() = Unwritten(true);
        cx.out.emit(n);
        Ok(())
    }
}

#[test]
fn a_state_that_cannot_be_written_is_told_with_its_step() {
    let job = TestJob::new(|job| {
        let numbers = job.source("numbers", VecSource::of([1, 2]));
        numbers.key_by(|n| n).process("keeps", Keeps).sink("out", Discard::named("out"));
        Ok(())
    });
    says(&job.run().unwrap_err().to_string(), &["step 'keeps': a key or a state cannot be serialized"]);
}

#[test]
fn an_error_and_a_panic_of_the_build_function_end_the_run() {
    let error = TestJob::new(|_| Err(Error::job("no model"))).run().unwrap_err().to_string();
    assert!(error.contains("no model"), "{error}");
    let panic = TestJob::new(|_| panic!("no model")).run().unwrap_err().to_string();
    assert!(panic.contains("no model"), "{panic}");
}

#[test]
fn a_dead_letter_does_not_take_the_blame_for_a_later_panic() {
    let source = VecSource::of([1, 2, BAD]);
    let job = TestJob::new(move |job| {
        job.source("numbers", source.clone())
            .try_map("parse", |n| if *n == 2 { Err("two") } else { Ok(stumble(*n)) })
            .dead_letters(Discard::named("letters"))
            .sink("out", Discard::named("out"));
        Ok(())
    });
    says(&job.run().unwrap_err().to_string(), &["step 'parse', partition 'partition-0', offset 2"]);
}
