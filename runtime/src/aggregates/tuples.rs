//! Several aggregates side by side: a tuple of aggregates is an aggregate with a tuple as its result.

use crate::aggregates::{Aggregate, Mergeable};

macro_rules! tuple {
    ($($name:ident $at:tt),+) => {
        impl<T, $($name: Aggregate<T>),+> Aggregate<T> for ($($name,)+) {
            type Acc = ($($name::Acc,)+);
            type Out = ($($name::Out,)+);

            fn create(&self) -> Self::Acc {
                ($(self.$at.create(),)+)
            }

            #[inline]
            fn add(&self, acc: &mut Self::Acc, record: &T) {
                $(self.$at.add(&mut acc.$at, record);)+
            }

            fn finish(&self, acc: &Self::Acc) -> Self::Out {
                ($(self.$at.finish(&acc.$at),)+)
            }
        }

        impl<T, $($name: Mergeable<T>),+> Mergeable<T> for ($($name,)+) {
            fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
                $(self.$at.merge(&mut acc.$at, other.$at);)+
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
