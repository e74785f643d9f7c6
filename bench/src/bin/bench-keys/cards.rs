//! A map a key, as a job has one that looks for fraud.

use crate::Update;
use std::collections::BTreeMap;
use tidegate::{Context, KeyedProcess, Result};

/// What is remembered of a card: more is forgotten, the oldest first.
const PAYMENTS: usize = 20;

/// Remembers the payments with every card by their time.
pub(crate) struct Cards;

/// A payment: the amount and where it was made.
type Payment = (f64, u32);

impl KeyedProcess for Cards {
    type Key = u64;
    type In = Update;
    type State = BTreeMap<u64, Payment>;
    type Out = bool;
    type Side = ();

    fn on_record(&mut self, update: Update, cx: &mut Context<'_, Self>) -> Result<()> {
        let payments = cx.state.get_mut();
        payments.insert(update.at, (update.at as f64, update.key as u32));
        if payments.len() > PAYMENTS {
            payments.pop_first();
        }
        cx.out.emit(update.churn);
        Ok(())
    }
}
