//! What the compiler says about programs with the mistakes that a newcomer makes: each message must say what to do instead.
//!
//! The programs are given to rustc with the libraries that cargo has built for this test; nothing else is compiled for them.
//! Only the library's own words are compared, so that another version of the compiler may say the rest in another way.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What stands before and after the steps of a program.
const BEFORE: &str = r#"
use std::time::Duration;
use serde::{Deserialize, Serialize};
use tidegate::aggregates::{Count, Sum};
use tidegate::testing::Discard;
use tidegate::{Aggregate, Job, Context, KeyedProcess, Result, Tumbling, Watermarks};
use tidegate_connectors::FileLog;

#[derive(Clone, Serialize, Deserialize)]
struct Click { user: String, at: i64, product: u32, price: f64 }

struct Plain { user: String }

#[derive(clap::Args)]
struct Args { #[arg(long)] factor: f64 }

struct Steps;

impl Aggregate<Click> for Steps {
    type Acc = u64;
    type Out = u64;
    fn create(&self) -> u64 { 0 }
    fn add(&self, acc: &mut u64, _: &Click) { *acc += 1 }
    fn finish(&self, acc: &u64) -> u64 { *acc }
}

impl KeyedProcess for Steps {
    type Key = u32;
    type In = Click;
    type State = u64;
    type Out = u32;
    type Side = ();
    fn on_record(&mut self, _: Click, _: &mut Context<'_, Self>) -> Result<()> { Ok(()) }
}

/// What a step asks for that brings parts of a result together.
fn merged<A: tidegate::Mergeable<Click>>(_: A) {}

fn main() -> Result<()> { tidegate::main("clicks", build) }

fn build(job: &mut Job, args: &Args) -> Result<()> {
    let factor = args.factor;
    let clicks = job.source("clicks", FileLog::partitions("in").json::<Click>());
"#;
const AFTER: &str = ".sink(\"out\", Discard::named(\"out\"));\n    Ok(())\n}\n";

/// Steps that are wrong, and what the compiler must say about them.
const MISTAKES: [(&str, &[&str]); 16] = [
    (
        "clicks.key_by(|c| c.user.as_str()).aggregate(\"n\", Count)",
        &["`str` cannot be a key", "take the whole `String`, `key_by(|r| &r.name)`"],
    ),
    (
        "clicks.key_by(|c| &c.price).aggregate(\"n\", Count)",
        &["`f64` cannot be a key", "for a floating-point number a rounded integer, `key_by_value("],
    ),
    (
        "clicks.map(|c| Plain { user: c.user }).key_by(|p| &p.user).aggregate(\"n\", Count)",
        &["records of the type `Plain` cannot cross to another worker", "derives serde's `Serialize` and"],
    ),
    (
        "clicks.map(|c| Plain { user: c.user }).rebalance()",
        &["records of the type `Plain` cannot cross to another worker"],
    ),
    (
        "clicks.map(|c| Plain { user: c.user }).broadcast()",
        &["records of the type `Plain` cannot cross to another worker"],
    ),
    (
        "clicks.key_by(|c| &c.product).aggregate(\"n\", |acc: &mut u64, _: &Click| *acc += 1)",
        &[
            "is not an aggregate of records of the type `Click`",
            "implement `Aggregate<Click>` for a struct of your own",
            "`fold(\"total\", 0, |total, record| ..)` takes a closure",
        ],
    ),
    (
        "clicks.key_by(|c| &c.product).window(Tumbling::of(Duration::from_secs(1))).aggregate(\"n\", |n: &mut u64| ())",
        &["implement `Aggregate<Click>` for a struct of your own"],
    ),
    (
        "clicks.map(|c| (c.user, c.at)).key_by(|c| &c.0).aggregate(\"n\", Steps)",
        &["`Steps` is not an aggregate of records of the type `(String, i64)`"],
    ),
    (
        "clicks.key_by(|c| &c.product).aggregate(\"n\", Sum::of(|c: &Click| c.user.clone()))",
        &[
            "`String` is not a number that can be added up",
            "an integer of up to 64 bits, an `f32` or an `f64`, by value",
        ],
    ),
    (
        "merged((Count, Steps)); clicks",
        &[
            "`Steps` cannot merge two accumulators of records of the type `Click`",
            "implement `Mergeable<Click>` beside `Aggregate<Click>`, with the function `merge`",
        ],
    ),
    (
        "clicks.key_by(|c| &c.product).process(\"step\", |c, context| Ok(()))",
        &[
            "is not a process function of a keyed stream",
            "implement `KeyedProcess` for a struct of your own, with the types `Key`, `In`, `State`, `Out` and `Side`",
            "`flat_map_with_state(\"name\", |state: &mut State, record| ..)` and `map_with_state` take closures",
        ],
    ),
    ("clicks.key_by(|c| &c.user).process(\"step\", Steps)", &["`<Steps as KeyedProcess>::Key == String`"]),
    (
        "clicks.map(|c| (c.user, c.product)).key_by(|c| &c.1).process(\"step\", Steps)",
        &["`<Steps as KeyedProcess>::In == (String, u32)`"],
    ),
    (
        "let b = clicks.clone(); clicks.key_by(|c| &c.product).connect_broadcast(b).process(\"step\", |c, shared| Ok(()))",
        &["implement `BroadcastProcess` for a struct of your own (a closure cannot be one)"],
    ),
    (
        "job.source(\"more\", FileLog::partitions(\"in\"))",
        &["`FileLogSource` is not a source", "`FileLog::partitions(directory).json::<Reading>()`"],
    ),
    (
        "clicks.clone().sink(\"files\", FileLog::sink(\"out\")); clicks",
        &["`FileLogSink` is not a sink for records of the type `Click`", "`FileLog::sink(directory).json()`"],
    ),
];

/// The libraries that programs are compiled with, as cargo has built them for this test.
struct Libraries {
    directory: PathBuf,
    arguments: Vec<String>,
}

impl Libraries {
    fn find() -> Self {
        let directory =
            Path::new(env!("CARGO_BIN_EXE_predictive-maintenance")).parent().expect("a directory");
        let mut cargo = Command::new("cargo");
        // What this test was built with; all of it is there already.
        cargo.args([
            "test",
            "--no-run",
            "--locked",
            "--workspace",
            "--test",
            "compile_errors",
            "--message-format=json",
        ]);
        if directory.ends_with("release") {
            cargo.arg("--release");
        }
        cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        cargo.env("CARGO_TARGET_DIR", directory.parent().expect("a target directory"));
        let built = cargo.output().expect("cargo runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let mut arguments = vec!["-L".to_owned(), format!("dependency={}", directory.join("deps").display())];
        for line in String::from_utf8(built.stdout).expect("text").lines() {
            arguments.extend(library(&serde_json::from_str(line).expect("a message in JSON")));
        }
        assert_eq!(arguments.len(), 2 + 2 * 4, "four libraries: {arguments:?}");
        Self { directory: directory.to_owned(), arguments }
    }

    /// Whether a program with these steps compiles, and what the compiler says about it.
    fn compile(&self, number: usize, steps: &str) -> (bool, String) {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("compile-errors-{number}.rs"));
        std::fs::write(&place, format!("{BEFORE}    {steps}{AFTER}")).expect("the program");
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "--emit=metadata", "--crate-name=newcomer", "-o"]);
        rustc
            .arg(place.with_extension("rmeta"))
            .args(&self.arguments)
            .arg(&place)
            .current_dir(&self.directory);
        let output = rustc.output().expect("rustc runs");
        let said = String::from_utf8_lossy(&output.stderr).replace("std::string::String", "String");
        (output.status.success(), said)
    }
}

/// How rustc is told of a library that the programs use, if a message of cargo is about one.
fn library(message: &Value) -> Vec<String> {
    let name = message["target"]["name"].as_str().unwrap_or_default();
    let wanted = ["tidegate", "tidegate_connectors", "serde", "clap"].contains(&name);
    let optimized = message["profile"]["opt_level"] != "0"; // not what build scripts use
    let mut files = message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let file = files.find(|file| wanted && optimized && file.ends_with(".rlib"));
    file.map_or(Vec::new(), |file| vec!["--extern".to_owned(), format!("{name}={file}")])
}

#[test]
fn the_compiler_says_what_to_do_about_the_mistakes_of_newcomers() {
    let libraries = Libraries::find();
    let (sound, said) = libraries.compile(0, "clicks.map(move |c| c.price * factor)");
    assert!(sound, "{said}");
    for (number, (steps, answers)) in MISTAKES.into_iter().enumerate() {
        let (_, said) = libraries.compile(number + 1, steps);
        for answer in answers {
            assert!(said.contains(answer), "{steps}\n\nis not answered by '{answer}', but by\n\n{said}");
        }
    }
}
