//! User code that is slow, and user code that does not come back.

mod barriers;
mod gate;
mod hangs;
mod listing;
mod staging;
mod turns;
