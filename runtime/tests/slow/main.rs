//! User code that is slow.

mod barriers;
