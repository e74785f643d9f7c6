//! Aggregates that are closures of a job.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::aggregates::Aggregate;
use crate::data::Data;

/// See [`crate::KeyedStream::fold`].
pub(crate) struct Fold<A, F> {
    pub(crate) initial: A,
    pub(crate) f: F,
}

impl<T, A, F> Aggregate<T> for Fold<A, F>
where
    A: Clone + Serialize + DeserializeOwned + 'static,
    F: Fn(&mut A, &T) + 'static,
{
    type Acc = A;
    type Out = A;

    fn create(&self) -> A {
        self.initial.clone()
    }

    #[inline]
    fn add(&self, acc: &mut A, record: &T) {
        (self.f)(acc, record);
    }

    fn finish(&self, acc: &A) -> A {
        acc.clone()
    }
}

/// See [`crate::KeyedStream::reduce`].
pub(crate) struct Reduce<F>(pub(crate) F);

impl<T: Data + Clone, F: Fn(&mut T, &T) + 'static> Aggregate<T> for Reduce<F> {
    type Acc = Option<T>;
    type Out = T;

    fn create(&self) -> Option<T> {
        None
    }

    fn add(&self, acc: &mut Option<T>, record: &T) {
        match acc {
            Some(value) => (self.0)(value, record),
            None => *acc = Some(record.clone()),
        }
    }

    fn finish(&self, acc: &Option<T>) -> T {
        acc.clone().expect("an accumulator has met at least one record before it is finished")
    }
}
