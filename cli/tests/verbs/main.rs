//! The verbs of the command line against a jobmanager that is a fake: what they ask, what they print, and how they end.

mod answers;
mod changing;
mod errors;
mod fake;
mod running;
mod showing;
