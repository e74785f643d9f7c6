//! A timer a key, all of which are due at the end of the input.

use crate::Update;
use tidegate::{Context, KeyedProcess, Result, Timer};

/// Event time that no update has.
const LATE: i64 = 1 << 50;

/// Sets a timer for every key, and says when it fires.
pub(crate) struct Reminders;

impl KeyedProcess for Reminders {
    type Key = u64;
    type In = Update;
    type State = ();
    type Out = ();
    type Side = ();

    fn on_record(&mut self, update: Update, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.timers.set(Timer::event(LATE + update.at as i64));
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, cx: &mut Context<'_, Self>) -> Result<()> {
        cx.out.emit(());
        Ok(())
    }
}
