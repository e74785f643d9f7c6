//! The public face of a model.

use std::{fmt, fs, path::Path, sync::Arc};

use sha2::{Digest, Sha256};

use crate::{
    error::ModelError,
    read::{self, Parts},
};

/// A gradient-boosted tree model of xgboost, ready to score rows.
///
/// A row is a slice of f32, one value a feature, in the order of training; NaN means missing. Infinities are
/// numbers like any other. Cloning is cheap (the trees are shared), and all clones in all threads may score at
/// once.
#[derive(Clone)]
pub struct XgboostModel {
    parts: Arc<Parts>,
    id: Arc<str>,
}

impl XgboostModel {
    /// Reads a model from a file that `booster.save_model` wrote, JSON or UBJSON. The format is told by the content.
    ///
    /// # Errors
    ///
    /// [`ModelError::Read`] if the file cannot be read, [`ModelError::Unsupported`] if it holds what this evaluator
    /// does not score (see the [crate's front page](crate)), [`ModelError::Corrupt`] if it is not a valid model.
    pub fn load(path: impl AsRef<Path>) -> Result<XgboostModel, ModelError> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let bytes = fs::read(path).map_err(|source| ModelError::Read { file: file.clone(), source })?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::new(&bytes, &stem, file)
    }

    /// Reads a model from the bytes of such a file. `name` stands for the file in the id and in errors.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn from_slice(bytes: &[u8], name: &str) -> Result<XgboostModel, ModelError> {
        Self::new(bytes, name, name.into())
    }

    fn new(bytes: &[u8], stem: &str, file: String) -> Result<XgboostModel, ModelError> {
        let parts = read::read(bytes).map_err(|fault| fault.in_file(file))?;
        Ok(XgboostModel { parts: Arc::new(parts), id: id(bytes, stem).into() })
    }

    /// The name of exactly these bytes: the file's name without extension, and the first 8 hex digits of the file's
    /// SHA-256, as in `model-3fa94c21`. It belongs in every scored record.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Features in a row.
    pub fn num_features(&self) -> usize {
        self.parts.num_features
    }

    /// Outputs of a row: the classes of `multi:softprob`; for the other objectives the targets, mostly 1.
    pub fn num_outputs(&self) -> usize {
        self.parts.margins.len()
    }

    /// To be called once, at start: is this a model for rows of `given` features?
    ///
    /// # Errors
    ///
    /// [`ModelError::Features`] if it is not.
    pub fn expect_features(&self, given: usize) -> Result<(), ModelError> {
        if given == self.num_features() {
            return Ok(());
        }
        Err(ModelError::Features { model: self.id().into(), takes: self.num_features(), given })
    }

    /// To be called once, at start: does this model give `wanted` outputs a row?
    ///
    /// # Errors
    ///
    /// [`ModelError::Outputs`] if it does not.
    pub fn expect_outputs(&self, wanted: usize) -> Result<(), ModelError> {
        if wanted == self.num_outputs() {
            return Ok(());
        }
        Err(ModelError::Outputs { model: self.id().into(), gives: self.num_outputs(), wanted })
    }

    /// The score of one row, from a model with one output: a probability for `binary:logistic`, a value in the
    /// label's units for `reg:squarederror`.
    ///
    /// # Panics
    ///
    /// If `features` is not [`num_features`](Self::num_features) long, or if the model has more than one output:
    /// [`expect_features`](Self::expect_features) and [`expect_outputs`](Self::expect_outputs) find out at start.
    #[inline]
    pub fn predict(&self, features: &[f32]) -> f32 {
        let mut out = [0.0];
        self.predict_into(features, &mut out);
        out[0]
    }

    /// The scores of one row, written to `out`: for `multi:softprob` the probability of each class.
    ///
    /// ```
    /// # use tidegate_models::XgboostModel;
    /// let model = XgboostModel::load("testdata/xgboost-3.2.0/softprob.json")?;
    /// let mut probabilities = [0.0; 3];
    /// model.predict_into(&[0.3, -1.0, 2.5e29, f32::NAN, 0.9], &mut probabilities);
    /// assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    /// # Ok::<(), tidegate_models::ModelError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `features` is not [`num_features`](Self::num_features) long, or `out` not
    /// [`num_outputs`](Self::num_outputs).
    #[inline]
    pub fn predict_into(&self, features: &[f32], out: &mut [f32]) {
        let parts = &*self.parts;
        assert_eq!(
            features.len(),
            parts.num_features,
            "features in a row, and features that the model takes"
        );
        assert_eq!(out.len(), parts.margins.len(), "room for outputs, and outputs that the model gives");
        out.copy_from_slice(&parts.margins);
        parts.forest.add_to(out, features);
        parts.objective.transform(out);
    }
}

impl fmt::Debug for XgboostModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XgboostModel")
            .field("id", &self.id)
            .field("objective", &self.parts.objective)
            .field("num_features", &self.num_features())
            .field("num_outputs", &self.num_outputs())
            .field("num_trees", &self.parts.forest.num_trees())
            .finish()
    }
}

fn id(bytes: &[u8], stem: &str) -> String {
    let digits: String = Sha256::digest(bytes)[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{stem}-{digits}")
}
