//! Takes from a model file what is needed to score, and refuses by name what cannot be scored correctly.
//!
//! The layout is described in xgboost's "Introduction to Model IO" and by the files themselves; where versions
//! differ, the difference is noted at the code that knows of it.

use crate::{
    error::Fault,
    forest::{Columns, Forest},
    json,
    objective::Objective,
    ubj,
    value::{At, Value},
};

/// A model, read and checked.
pub(crate) struct Parts {
    pub(crate) objective: Objective,
    /// Where each output's sum starts; as long as the model has outputs.
    pub(crate) margins: Vec<f32>,
    pub(crate) num_features: usize,
    pub(crate) forest: Forest,
}

/// Reads a model file of either format.
pub(crate) fn read(bytes: &[u8]) -> Result<Parts, Fault> {
    let file = parse(bytes)?;
    let file = At::root(&file);
    let version = version(&file)?;
    let learner = file.get("learner")?;
    let param = learner.get("learner_model_param")?;
    let num_features = num_features(&param)?;
    let trees = gbtree(&learner.get("gradient_booster")?)?;
    let objective = Objective::named(learner.get("objective")?.get("name")?.text()?)?;
    let num_outputs = num_outputs(&param, objective)?;
    let forest = forest(&trees, num_features, num_outputs)?;
    let margins = margins(&param.get("base_score")?, objective, version, num_outputs)?;
    Ok(Parts { objective, margins, num_features, forest })
}

/// Both formats start with `{`; what follows tells them apart: JSON goes on with a quote or a space, UBJSON with the
/// type of a length.
fn parse(bytes: &[u8]) -> Result<Value, Fault> {
    let Some(start) = bytes.iter().position(|byte| !byte.is_ascii_whitespace()) else {
        return Err(Fault::corrupt("the file is empty"));
    };
    match bytes[start..] {
        [b'{', b'i' | b'U' | b'I' | b'l' | b'L', ..] => ubj::read(bytes),
        [b'{', ..] => json::read(bytes),
        _ => Err(Fault::unsupported(
            "it is neither xgboost's JSON nor its UBJSON (the old binary format, a pickle or a dump, perhaps)",
            "save it with booster.save_model(\"model.ubj\")",
        )),
    }
}

/// Major and minor version of the xgboost that wrote the file. In a version whose scores have not been compared,
/// the same fields may mean something else, as base_score has shown.
fn version(file: &At<'_>) -> Result<(usize, usize), Fault> {
    let version = file.get("version")?;
    let [major, minor, ..] = version.integers()?[..] else { return Err(version.fault("is too short")) };
    match (usize::try_from(major), usize::try_from(minor)) {
        (Ok(1), Ok(minor @ 7..)) => Ok((1, minor)),
        (Ok(major @ 2..=3), Ok(minor)) => Ok((major, minor)),
        _ => Err(Fault::unsupported(
            format!("it was written by xgboost {major}.{minor}"),
            "load it and save it again with an xgboost from 1.7 to 3.x",
        )),
    }
}

/// The trees' part of the file.
fn gbtree<'a>(booster: &At<'a>) -> Result<At<'a>, Fault> {
    match booster.get("name")?.text()? {
        "gbtree" => booster.get("model"),
        name => Err(Fault::unsupported(
            format!("the booster {name} is not supported"),
            "train with booster=gbtree",
        )),
    }
}

fn num_features(param: &At<'_>) -> Result<usize, Fault> {
    let num_features = param.get("num_feature")?;
    match num_features.size()? {
        0 => Err(num_features.fault("is 0")),
        // A node has 32 bits for the number of its feature.
        more if more > u32::MAX as usize => {
            Err(num_features.fault(format_args!("is {more}, more than {}", u32::MAX)))
        }
        more => Ok(more),
    }
}

fn num_outputs(param: &At<'_>, objective: Objective) -> Result<usize, Fault> {
    let (classes, targets) = (param.get("num_class")?, param.get("num_target")?);
    let (num_classes, num_targets) = (classes.size()?, targets.size()?.max(1));
    match (objective, num_classes, num_targets) {
        (Objective::Softprob, 1.., 1) => Ok(num_classes),
        (Objective::BinaryLogistic | Objective::SquaredError, 0..=1, _) => Ok(num_targets),
        _ => {
            let what =
                format!("is {num_classes} beside {num_targets} targets, which {objective:?} does not have");
            Err(classes.fault(what))
        }
    }
}

/// The trees, each added to the output that `tree_info` names. With `num_parallel_tree` an output has more trees a
/// round and nothing else changes.
fn forest(model: &At<'_>, num_features: usize, num_outputs: usize) -> Result<Forest, Fault> {
    let info = model.get("tree_info")?;
    let outputs = info.integers()?;
    let num_trees = model.get("gbtree_model_param")?.get("num_trees")?.size()?;
    let mut trees = model.get("trees")?.items()?;
    let mut forest = Forest::default();
    for (tree, &output) in trees.by_ref().zip(&outputs) {
        let output = u32::try_from(output).ok().filter(|&output| (output as usize) < num_outputs);
        let output =
            output.ok_or_else(|| info.fault(format_args!("names an output beyond {num_outputs}")))?;
        let columns = columns(&tree)?;
        forest.plant(&columns, output, num_features).map_err(|fault| within(&tree, fault))?;
    }
    if trees.next().is_some() || num_trees != outputs.len() || num_trees != forest.num_trees() {
        return Err(model.fault("does not have as many trees as it says"));
    }
    // Every round makes a tree for every output. (This bounds the outputs, too, which the file only claims.)
    if num_trees < num_outputs {
        return Err(model.fault(format_args!("has {num_trees} trees for {num_outputs} outputs")));
    }
    Ok(forest)
}

fn within(tree: &At<'_>, fault: Fault) -> Fault {
    match fault {
        Fault::Corrupt(what) => tree.fault(format_args!("is broken: {what}")),
        unsupported => unsupported,
    }
}

fn columns(tree: &At<'_>) -> Result<Columns, Fault> {
    let param = tree.get("tree_param")?;
    refuse_vector_leaves(&param)?;
    refuse_categories(tree)?;
    let num_nodes = param.get("num_nodes")?.size()?;
    if num_nodes == 0 {
        return Err(param.fault("says that the tree has no nodes"));
    }
    let integers = |key| {
        let column = tree.get(key)?;
        of_length(&column, num_nodes, column.integers()?)
    };
    let value = tree.get("split_conditions")?;
    Ok(Columns {
        left: integers("left_children")?,
        right: integers("right_children")?,
        feature: integers("split_indices")?,
        value: of_length(&value, num_nodes, value.floats()?)?,
        default_left: integers("default_left")?,
    })
}

fn of_length<T>(at: &At<'_>, length: usize, column: Vec<T>) -> Result<Vec<T>, Fault> {
    if column.len() == length {
        return Ok(column);
    }
    Err(at.fault(format_args!("has {} elements for {length} nodes", column.len())))
}

/// xgboost 1.7 writes 0 for plain leaves, later ones write 1.
fn refuse_vector_leaves(tree_param: &At<'_>) -> Result<(), Fault> {
    if tree_param.get("size_leaf_vector")?.size()? <= 1 {
        return Ok(());
    }
    Err(Fault::unsupported(
        "multi_output_tree (leaves that are vectors) is not supported",
        "train with multi_strategy=one_output_per_tree",
    ))
}

fn refuse_categories(tree: &At<'_>) -> Result<(), Fault> {
    let types = tree.get("split_type")?.integers()?;
    if types.iter().all(|&kind| kind == 0) && tree.get("categories_nodes")?.integers()?.is_empty() {
        return Ok(());
    }
    Err(Fault::unsupported(
        "categorical splits are not supported",
        "train with enable_categorical=False on features that are encoded as numbers",
    ))
}

/// The start of each output's sum. Until 3.0 base_score is one number ("5E-1"), since 3.1 a list: one number for
/// all outputs ("[5E-1]") or one for each.
fn margins(
    base_score: &At<'_>,
    objective: Objective,
    version: (usize, usize),
    num_outputs: usize,
) -> Result<Vec<f32>, Fault> {
    let text = base_score.text()?;
    let list = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let margin = |number: &str| objective.margin(number.trim().parse().ok()?, version);
    let margins: Option<Vec<f32>> = list.split(',').map(margin).collect();
    match margins.as_deref() {
        Some(&[one]) => Ok(vec![one; num_outputs]),
        Some(each) if each.len() == num_outputs => Ok(each.into()),
        _ => {
            Err(base_score
                .fault(format_args!("\"{text}\" does not fit {num_outputs} outputs of {objective:?}")))
        }
    }
}
