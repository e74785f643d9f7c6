//! No value wedges a job: state of any shape and size, times at the ends of what a number holds, checkpoint directories with
//! any damage. What comes in as bytes is tested where the files are read, by the test of this name in `connectors`.

mod check;
mod damage;
mod refused;
mod state;
mod times;
