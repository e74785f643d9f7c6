//! Model evaluators: gradient-boosted trees as xgboost writes them.
//!
//! A streaming job scores one row at a time, in the thread that holds the row. [`XgboostModel`] does that without
//! xgboost: it reads the file that `booster.save_model` writes and walks the trees in plain Rust, about half a
//! million rows a second and core for 100 trees of depth 6. Its scores are xgboost's own to within 1e-6: the
//! comparisons and sums are made in f32 and in xgboost's order, and the tests hold them against predictions
//! recorded from the real packages.
//!
//! ```
//! use tidegate_models::XgboostModel;
//!
//! let model = XgboostModel::load("testdata/xgboost-3.2.0/binary.ubj")?;
//! model.expect_features(5)?; // once, at start: is this the model that the job was written for?
//! let probability = model.predict(&[0.3, -1.0, 2.5e29, f32::NAN, 0.9]); // NaN is a missing value
//! assert!((0.0..=1.0).contains(&probability));
//! # Ok::<(), tidegate_models::ModelError>(())
//! ```
//!
//! # What it reads
//!
//! | | read | refused by name |
//! |---|---|---|
//! | file | JSON and UBJSON (`.ubj`), told apart by content | the old binary format, pickles, text dumps |
//! | written by | xgboost 1.7, 2.x, 3.x | anything older or newer |
//! | booster | `gbtree`, with `num_parallel_tree` of any size | `dart`, `gblinear` |
//! | objective | `binary:logistic`, `reg:squarederror`, `multi:softprob` | all others, `multi:softmax` among them |
//! | splits | numeric, with missing values | categorical |
//! | outputs | one a tree | `multi_output_tree` |
//!
//! All trees count, as in `Booster.predict`: a model that stopped early is saved as
//! `booster[: booster.best_iteration + 1]` if only the best part of it is meant.
//!
//! # How a file becomes a model
//!
//! `json` and `ubj` each read their format into one generic tree of values (`value`); `read` takes from that tree
//! what a model needs and checks it; `forest` lays the nodes out for speed and walks them; `objective` turns the
//! sums into scores; `model` is the public face. A file is never trusted: whatever its bytes, the answer is a model
//! whose every walk ends at a leaf, or a [`ModelError`] that says what is wrong, in which file, and what to do.
//!
//! Not here: training, other libraries' models, neural nets, and reloading a model while a job runs.

mod error;
mod forest;
mod json;
mod model;
mod objective;
mod read;
mod ubj;
mod value;

pub use error::ModelError;
pub use model::XgboostModel;
