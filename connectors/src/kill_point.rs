//! Named instants at which a test may end the process, to show that any instant would do.

pub(crate) use tidegate::fault::point as kill_point;
