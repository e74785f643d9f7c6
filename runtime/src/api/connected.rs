//! Two keyed streams that one function reads.

use std::rc::Rc;

use crate::api::keyed::KeyedStream;
use crate::api::plain::Stream;
use crate::data::Data;
use crate::key::{Key, KeyFn};
use crate::keyed_process::KeyedProcess;

/// A record of one of two connected streams.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Either<L, R> {
    /// Of the stream that [`KeyedStream::connect`] was called on.
    Left(L),
    /// Of the other.
    Right(R),
}

/// Two streams of the same key.
#[must_use = "connected streams do nothing until they are processed"]
pub struct Connected<K, L, R> {
    pub(super) left: KeyedStream<K, L>,
    pub(super) right: KeyedStream<K, R>,
}

impl<K: Key, L: Data, R: Data> Connected<K, L, R> {
    /// Runs a function with state and timers over the records of both; its watermark is the lesser of both. See
    /// [`KeyedStream::connect`] for an example.
    pub fn process<F: KeyedProcess<Key = K, In = Either<L, R>>>(self, name: &str, f: F) -> Stream<F::Out> {
        self.process_with_side(name, f).0
    }

    /// The same; the second stream is the function's side output.
    ///
    /// ```
    /// use tidegate::testing::{Discard, VecSource, collect};
    /// use tidegate::{Context, Either, KeyedProcess, Result};
    ///
    /// /// Lets words through, and numbers to the side.
    /// struct Sort;
    ///
    /// impl KeyedProcess for Sort {
    ///     type Key = usize;
    ///     type In = Either<String, usize>;
    ///     type State = ();
    ///     type Out = String;
    ///     type Side = usize;
    ///
    ///     fn on_record(&mut self, record: Self::In, context: &mut Context<'_, Self>) -> Result<()> {
    ///         match record {
    ///             Either::Left(word) => context.out.emit(word),
    ///             Either::Right(number) => context.side.emit(number),
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let numbers = collect(|job| {
    ///     let words = job.source("words", VecSource::of(["tide".to_owned()])).key_by_value(String::len);
    ///     let numbers = job.source("numbers", VecSource::of([4])).key_by(|n| n);
    ///     let (words, numbers) = words.connect(numbers).process_with_side("sort", Sort);
    ///     words.sink("words_out", Discard::named("words"));
    ///     Ok(numbers)
    /// })?;
    /// assert_eq!(numbers, [4]);
    /// # Ok::<(), tidegate::Error>(())
    /// ```
    pub fn process_with_side<F: KeyedProcess<Key = K, In = Either<L, R>>>(
        self,
        name: &str,
        f: F,
    ) -> (Stream<F::Out>, Stream<F::Side>) {
        let (left_key, right_key) = (self.left.key, self.right.key);
        let key = KeyFn::Computed(Rc::new(move |record: &Either<L, R>| match record {
            Either::Left(record) => left_key.with(record, K::clone),
            Either::Right(record) => right_key.with(record, K::clone),
        }));
        let left = self.left.inputs.into_iter().map(|input| input.map(Either::Left));
        let right = self.right.inputs.into_iter().map(|input| input.map(Either::Right));
        KeyedStream { inputs: left.chain(right).collect(), key }.process_with_side(name, f)
    }
}
