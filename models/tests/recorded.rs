//! Our scores against xgboost's own, as `testdata/record.py` recorded them: three versions, three objectives, two
//! file formats; rows with missing, huge, tiny and infinite values, and with values on and one ulp beside thresholds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tidegate_models::XgboostModel;

/// How far a score may be from xgboost's.
const TOLERANCE: f32 = 1e-6;

const VERSIONS: [&str; 3] = ["1.7.6", "2.1.4", "3.2.0"];

const CASES: [&str; 11] = [
    "binary",
    "binary-base",
    "binary-exact",
    "forest",
    "leaf",
    "multitarget",
    "regression",
    "regression-base",
    "softprob",
    "softprob-forest",
    "stump",
];

/// base_score 0 and 1, which only the newest versions accept.
const CASES_OF_3_2: [&str; 2] = ["binary-always", "binary-never"];

fn testdata() -> PathBuf {
    PathBuf::from("testdata")
}

fn table(value: &Value) -> Vec<Vec<f32>> {
    let cell = |value: &Value| match value {
        Value::String(text) => text.parse().unwrap(),
        number => number.as_f64().unwrap() as f32,
    };
    let row = |row: &Value| row.as_array().unwrap().iter().map(cell).collect();
    value.as_array().unwrap().iter().map(row).collect()
}

/// Scores every recorded row; returns how many scores there were and how many of them agree to the last bit.
fn compare(model: &Path, expected: &Path) -> (usize, usize) {
    let expected: Value = serde_json::from_slice(&fs::read(expected).unwrap()).unwrap();
    let (rows, scores) = (table(&expected["rows"]), table(&expected["scores"]));
    assert!(rows.len() > 20 && rows.len() == scores.len());
    let loaded = XgboostModel::load(model).unwrap();
    loaded.expect_features(rows[0].len()).unwrap();
    loaded.expect_outputs(scores[0].len()).unwrap();
    let mut same = 0;
    for (row, expected) in rows.iter().zip(&scores) {
        let mut out = vec![f32::NAN; expected.len()];
        loaded.predict_into(row, &mut out);
        if let [one] = out[..] {
            assert_eq!(loaded.predict(row), one);
        }
        for (ours, theirs) in out.iter().zip(expected) {
            let near = (ours - theirs).abs() <= TOLERANCE;
            assert!(near, "{}: {row:?}: ours {ours}, xgboost's {theirs}", model.display());
            same += usize::from(ours.to_bits() == theirs.to_bits());
        }
    }
    (rows.len() * scores[0].len(), same)
}

fn compare_version(version: &str, cases: &[&str], extension: &str) {
    let folder = testdata().join(format!("xgboost-{version}"));
    for case in cases {
        let model = folder.join(format!("{case}.{extension}"));
        let (scores, same) = compare(&model, &folder.join(format!("{case}.expected.json")));
        println!("{version} {case}.{extension}: {scores} scores, {same} the same to the last bit");
    }
}

#[test]
fn json_models_score_as_xgboost_does() {
    VERSIONS.iter().for_each(|version| compare_version(version, &CASES, "json"));
    compare_version("3.2.0", &CASES_OF_3_2, "json");
}

#[test]
fn ubj_models_score_as_xgboost_does() {
    VERSIONS.iter().for_each(|version| compare_version(version, &CASES, "ubj"));
    compare_version("3.2.0", &CASES_OF_3_2, "ubj");
}

#[test]
fn every_recorded_model_is_in_a_list_above() {
    for version in VERSIONS {
        for entry in fs::read_dir(testdata().join(format!("xgboost-{version}"))).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let case = name.split('.').next().unwrap();
            assert!(CASES.contains(&case) || CASES_OF_3_2.contains(&case), "{version}/{name} is not tested");
        }
    }
}

#[test]
fn the_model_of_the_predictive_maintenance_job_scores_as_xgboost_does() {
    for extension in ["json", "ubj"] {
        let model = testdata().join(format!("../../jobs/model/model.{extension}"));
        let (scores, same) = compare(&model, &testdata().join("jobs-model.expected.json"));
        println!("jobs/model/model.{extension}: {scores} scores, {same} the same to the last bit");
    }
}

#[test]
fn the_format_is_told_by_content_and_the_id_by_name_and_content() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("pump.v2.bin");
    for (extension, digits) in [("json", "8c0eb48c"), ("ubj", "7df2682d")] {
        fs::copy(testdata().join(format!("../../jobs/model/model.{extension}")), &copy).unwrap();
        let model = XgboostModel::load(&copy).unwrap();
        assert_eq!(model.id(), format!("pump.v2-{digits}"));
        let bytes = fs::read(&copy).unwrap();
        assert_eq!(XgboostModel::from_slice(&bytes, "model").unwrap().id(), format!("model-{digits}"));
    }
}

#[test]
fn clones_score_in_other_threads() {
    let model = XgboostModel::load(testdata().join("xgboost-3.2.0/binary.ubj")).unwrap();
    let row = [0.3, -1.0, 0.0, f32::NAN, 0.9];
    let there = std::thread::spawn({
        let model = model.clone();
        move || model.predict(&row)
    });
    assert_eq!(there.join().unwrap(), model.predict(&row));
}

#[test]
#[should_panic(expected = "features in a row")]
fn a_row_of_the_wrong_length_is_an_error() {
    XgboostModel::load(testdata().join("xgboost-3.2.0/binary.ubj")).unwrap().predict(&[0.0; 4]);
}

#[test]
#[should_panic(expected = "outputs that the model gives")]
fn one_score_of_many_is_an_error() {
    XgboostModel::load(testdata().join("xgboost-3.2.0/softprob.ubj")).unwrap().predict(&[0.0; 5]);
}
