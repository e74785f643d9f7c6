//! Files that must not become models: each is refused by an error that names what is wrong, and never by a panic.

use std::{fs, path::PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_models::{ModelError, XgboostModel};

fn testdata() -> PathBuf {
    PathBuf::from("testdata")
}

fn recorded(name: &str) -> Vec<u8> {
    fs::read(testdata().join("xgboost-3.2.0").join(name)).unwrap()
}

/// The error for a recorded JSON model after `change`.
fn after(name: &str, change: impl Fn(&mut Value)) -> ModelError {
    let mut file = serde_json::from_slice(&recorded(name)).unwrap();
    change(&mut file);
    XgboostModel::from_slice(file.to_string().as_bytes(), "changed").unwrap_err()
}

/// Asserts that a stump with `value` at `pointer` is damaged, and that the error says `why`.
fn damaged(pointer: &str, value: Value, why: &str) {
    let error = after("stump.json", |file| *file.pointer_mut(pointer).unwrap() = value.clone());
    assert!(matches!(error, ModelError::Corrupt { .. }), "{pointer}: {error}");
    assert!(error.to_string().contains(why), "{pointer}: {error}");
    assert!(error.to_string().contains("changed"), "{error}");
}

const PARAM: &str = "/learner/learner_model_param";
const MODEL: &str = "/learner/gradient_booster/model";
const TREE: &str = "/learner/gradient_booster/model/trees/0";

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (file, name) in [
        ("dart.json", "the booster dart"),
        ("dart.ubj", "the booster dart"),
        ("gblinear.json", "the booster gblinear"),
        ("gblinear.ubj", "the booster gblinear"),
        ("categorical.json", "categorical splits"),
        ("categorical.ubj", "categorical splits"),
        ("categorical-onehot.json", "categorical splits"),
        ("categorical-onehot.ubj", "categorical splits"),
        ("categorical-nan.json", "categorical splits"),
        ("multi-output-tree.json", "multi_output_tree"),
        ("multi-output-tree.ubj", "multi_output_tree"),
        ("softmax.json", "the objective multi:softmax"),
        ("softmax.ubj", "the objective multi:softmax"),
        ("poisson.json", "the objective count:poisson"),
        ("poisson.ubj", "the objective count:poisson"),
        ("old-binary.deprecated", "the old binary format"),
    ] {
        let error = XgboostModel::load(testdata().join("refused").join(file)).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, ModelError::Unsupported { .. }), "{file}: {text}");
        assert!(text.contains(name) && text.contains(file), "{file}: {text}");
        assert!(text.contains("; train with ") || text.contains("; save it with "), "no remedy: {text}");
    }
}

#[test]
fn versions_that_nobody_compared_are_refused_by_name() {
    for version in [json!([0, 9, 0]), json!([1, 6, 2]), json!([4, 0, 0]), json!([-1, 0, 0])] {
        let error = after("stump.json", |file| file["version"] = version.clone());
        assert!(matches!(error, ModelError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("written by xgboost"), "{error}");
    }
    damaged("/version", json!([3]), "version is too short");
}

#[test]
fn missing_files_are_named() {
    let error = XgboostModel::load("no/such/model.ubj").unwrap_err();
    assert!(matches!(error, ModelError::Read { .. }));
    assert!(error.to_string().contains("no/such/model.ubj"), "{error}");
}

#[test]
fn other_files_are_refused() {
    for (bytes, why) in [
        (&b""[..], "empty"),
        (b" \n", "empty"),
        (b"{", "not JSON"),
        (b"{}", "version is missing"),
        (b"{\"version\":[3,2,0]}", "learner is missing"),
        (b"{L", "not UBJSON at byte 2: the file is cut short"),
        (b"\x80\x04\x95", "neither"),
        (b"booster[0]:", "neither"),
    ] {
        let error = XgboostModel::from_slice(bytes, "it").unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn wrong_parameters_are_damage() {
    damaged(&format!("{PARAM}/num_feature"), json!("0"), "num_feature is 0");
    damaged(&format!("{PARAM}/num_feature"), json!("-1"), "num_feature is not a whole number");
    damaged(
        &format!("{PARAM}/num_feature"),
        json!("4294967296"),
        "num_feature is 4294967296, more than 4294967295",
    );
    damaged(&format!("{PARAM}/num_class"), json!("3"), "num_class is 3");
    damaged(&format!("{PARAM}/num_target"), json!("4000000000"), "has 1 trees for 4000000000 outputs");
    for base_score in ["", "[]", "[1,2]", "x", "nan", "inf", "[1"] {
        damaged(&format!("{PARAM}/base_score"), json!(base_score), "base_score");
    }
    damaged(&format!("{PARAM}/base_score"), json!(null), "base_score is not a text");
    let error = after("binary.json", |file| {
        *file.pointer_mut(&format!("{PARAM}/base_score")).unwrap() = json!("[2E0]")
    });
    assert!(error.to_string().contains("does not fit 1 outputs of BinaryLogistic"), "{error}");
}

#[test]
fn wrong_trees_are_damage() {
    damaged(&format!("{MODEL}/tree_info"), json!([1]), "names an output beyond 1");
    damaged(&format!("{MODEL}/tree_info"), json!([-1]), "names an output beyond 1");
    damaged(&format!("{MODEL}/tree_info"), json!([0, 0]), "as many trees");
    damaged(&format!("{MODEL}/tree_info"), json!([]), "as many trees");
    damaged(&format!("{MODEL}/trees"), json!([]), "as many trees");
    damaged(&format!("{MODEL}/trees"), json!({}), "trees is not an array");
    damaged(&format!("{MODEL}/trees"), json!([7]), "trees[0].tree_param is missing");
    damaged(&format!("{MODEL}/gbtree_model_param/num_trees"), json!("2"), "as many trees");
    damaged(&format!("{TREE}/tree_param/num_nodes"), json!("0"), "no nodes");
    damaged(&format!("{TREE}/tree_param/num_nodes"), json!("4"), "has 3 elements for 4 nodes");
    for column in ["left_children", "right_children", "split_indices", "split_conditions", "default_left"] {
        damaged(&format!("{TREE}/{column}"), json!([1, 2]), &format!("{column} has 2 elements for 3 nodes"));
        damaged(&format!("{TREE}/{column}"), json!(["x", 2, 3]), &format!("{column} is not an array of"));
    }
}

#[test]
fn wrong_nodes_are_damage() {
    damaged(&format!("{TREE}/left_children/0"), json!(0), "node 0 is reached twice");
    damaged(&format!("{TREE}/left_children/0"), json!(2), "node 2 is reached twice");
    damaged(&format!("{TREE}/left_children/0"), json!(3), "children 3 and 2, of 3 nodes");
    damaged(&format!("{TREE}/right_children/0"), json!(-1), "children 1 and -1");
    damaged(
        &format!("{TREE}/split_indices/0"),
        json!(5),
        "trees[0] is broken: node 0 asks for feature 5, of 5",
    );
    damaged(&format!("{TREE}/split_indices/0"), json!(0.5), "split_indices is not an array of whole numbers");
    damaged(&format!("{TREE}/split_conditions/0"), json!("NaN"), "threshold NaN");
    damaged(&format!("{TREE}/split_conditions/1"), json!(1e39), "leaf value inf");
}

#[test]
fn numbers_that_json_does_not_have_are_no_harm_where_nobody_looks() {
    let text = String::from_utf8(recorded("stump.json")).unwrap();
    let changed = text.replace("\"loss_changes\":[", "\"loss_changes\":[NaN,-Infinity,");
    assert_ne!(text, changed);
    assert!(XgboostModel::from_slice(changed.as_bytes(), "stump").is_ok());
}

#[test]
fn expectations_name_the_model_and_both_numbers() {
    let model = XgboostModel::load(testdata().join("xgboost-3.2.0/softprob.ubj")).unwrap();
    let (features, outputs) = (model.expect_features(3).unwrap_err(), model.expect_outputs(1).unwrap_err());
    assert!(
        features.to_string().contains(&format!("{} takes 5 features a row, the job gives 3", model.id()))
    );
    assert!(outputs.to_string().contains(&format!("{} gives 3 outputs a row, the job takes 1", model.id())));
}

#[test]
fn every_file_cut_short_is_damage() {
    for name in ["stump.json", "stump.ubj", "softprob-forest.json", "softprob-forest.ubj"] {
        let bytes = recorded(name);
        for length in 0..bytes.len() {
            let error = XgboostModel::from_slice(&bytes[..length], name).expect_err("a part is not a model");
            assert!(matches!(error, ModelError::Corrupt { .. }), "{name}, {length} bytes: {error}");
        }
    }
}

/// Loads whatever the bytes are and, should they be a model, scores with it.
fn survive(bytes: &[u8]) {
    let Ok(model) = XgboostModel::from_slice(bytes, "changed") else { return };
    if model.num_features() > 1_000_000 {
        return; // a number in a text may grow; the rows of such a model are not worth the memory
    }
    let mut out = vec![0.0; model.num_outputs()];
    for value in [0.0, -1.5, 1e30, f32::INFINITY, f32::NAN] {
        model.predict_into(&vec![value; model.num_features()], &mut out);
    }
}

fn models() -> impl Strategy<Value = Vec<u8>> {
    let names =
        ["stump.json", "stump.ubj", "softprob-forest.json", "softprob-forest.ubj", "binary-always.ubj"];
    proptest::sample::select(names.map(recorded).to_vec())
}

/// Bytes that mean something in one of the formats, or any.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        proptest::sample::select(&b"0123456789-,[]{}\":.eE$#LlUiIdDSZTF\x00\x01\x7f\x80\xff"[..]),
        any::<u8>()
    ]
}

/// So many cases, or those of `PROPTEST_CASES` if they are more.
fn cases(cases: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.max(cases), failure_persistence: None, ..config }
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn changed_bytes_never_panic(
        mut bytes in models(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), byte()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survive(&bytes);
    }

    #[test]
    fn moved_bytes_never_panic(
        bytes in models(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        length in 1usize..64,
    ) {
        let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
        let part = &bytes[from..bytes.len().min(from + length)];
        survive(&[&bytes[..to], part, &bytes[to..]].concat());
        survive(&[&bytes[..to], &bytes[bytes.len().min(to + length)..]].concat());
    }

    #[test]
    fn any_bytes_never_panic(start in prop::sample::select(vec!["{L", "{\"", "{", ""]), rest in prop::collection::vec(byte(), 0..200)) {
        survive(&[start.as_bytes(), &rest].concat());
    }
}
