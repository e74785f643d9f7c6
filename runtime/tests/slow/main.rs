//! User code that is slow, and user code that does not come back.

mod barriers;
mod hangs;
mod turns;
