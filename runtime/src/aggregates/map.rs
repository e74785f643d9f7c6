//! An aggregate with another result.

use std::marker::PhantomData;

use crate::aggregates::{Aggregate, Mergeable};

/// An aggregate of records of the type `T` whose result is changed by a closure; made by
/// [`Aggregate::map`](crate::Aggregate::map), which has an example.
#[derive(Clone, Copy, Debug)]
pub struct Map<A, F, T> {
    aggregate: A,
    f: F,
    records: PhantomData<fn(T)>,
}

impl<A, F, T> Map<A, F, T> {
    pub(crate) fn new(aggregate: A, f: F) -> Self {
        Self { aggregate, f, records: PhantomData }
    }
}

impl<T: 'static, A, F, U> Aggregate<T> for Map<A, F, T>
where
    A: Aggregate<T>,
    F: Fn(A::Out) -> U + 'static,
    U: 'static,
{
    type Acc = A::Acc;
    type Out = U;

    fn create(&self) -> A::Acc {
        self.aggregate.create()
    }

    #[inline]
    fn add(&self, acc: &mut A::Acc, record: &T) {
        self.aggregate.add(acc, record);
    }

    fn finish(&self, acc: &A::Acc) -> U {
        (self.f)(self.aggregate.finish(acc))
    }
}

impl<T: 'static, A, F, U> Mergeable<T> for Map<A, F, T>
where
    A: Mergeable<T>,
    F: Fn(A::Out) -> U + 'static,
    U: 'static,
{
    fn merge(&self, acc: &mut A::Acc, other: A::Acc) {
        self.aggregate.merge(acc, other);
    }
}
