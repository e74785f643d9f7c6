//! A closure over a record and the state of its key, as a process function without timers.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::key::Key;
use crate::keyed_process::{Context, KeyedProcess};
use tidegate_protocol::Result;

/// See [`crate::KeyedStream::flat_map_with_state`].
pub(crate) struct FlatMapWithState<K, T, S, F> {
    f: F,
    types: PhantomData<fn(K, T, S)>,
}

impl<K, T, S, F> FlatMapWithState<K, T, S, F> {
    pub(crate) fn new(f: F) -> Self {
        Self { f, types: PhantomData }
    }
}

impl<K, T, S, I, F> KeyedProcess for FlatMapWithState<K, T, S, F>
where
    K: Key,
    T: 'static,
    S: Serialize + DeserializeOwned + Default + 'static,
    I: IntoIterator<Item: 'static>,
    F: FnMut(&mut S, T) -> I + 'static,
{
    type Key = K;
    type In = T;
    type State = S;
    type Out = I::Item;
    type Side = ();

    fn on_record(&mut self, record: T, context: &mut Context<'_, Self>) -> Result<()> {
        for out in (self.f)(context.state.get_mut(), record) {
            context.out.emit(out);
        }
        Ok(())
    }
}
