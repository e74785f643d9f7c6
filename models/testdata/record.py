"""Train small models with the installed xgboost and record its own predictions for them.

usage: record.py OUTDIR

Writes OUTDIR/xgboost-<version>/<case>.json, .ubj (the model in both formats) and <case>.expected.json:

    {"xgboost": "3.2.0", "rows": [[...]], "scores": [[...]]}

`rows` holds one list of features a row, `scores` one list of outputs a row. Every number is an f32 written as the
f64 of the same value, so it reads back exactly; what JSON cannot say is a string: "NaN", "inf", "-inf".
Deterministic: one thread, fixed seeds. Version 1 and version 3 also write OUTDIR/refused/, models that must not
load, and version 3 OUTDIR/jobs-model.expected.json, its scores for ../../jobs/model/model.ubj.
"""

import json
import pathlib
import sys

import numpy as np
import xgboost as xgb

FEATURES = 5
VERSION = tuple(int(part) for part in xgb.__version__.split(".")[:2])
F32 = np.finfo(np.float32)


def training_data():
    """2,000 rows whose labels depend on every feature and on which values are missing."""
    rng = np.random.default_rng(20)
    x = rng.normal(size=(2000, FEATURES)).astype(np.float32)
    x[:, 1] = rng.integers(-2, 3, len(x))  # few distinct values, zero and negative ones among them
    x[:, 2] *= 1e30  # huge
    x[:, 3] *= 1e-30  # tiny
    x[rng.random(x.shape) < 0.15] = np.nan
    missing = np.isnan(x)
    z = np.nan_to_num(x * np.array([1, 0.7, 1e-30, 1e30, 0.5], dtype=np.float32))
    signal = z.sum(axis=1) + z[:, 0] * z[:, 4] + 1.5 * missing[:, 0] - 1.5 * missing[:, 1] + missing[:, 2]
    return x, signal + rng.normal(size=len(x)) * 0.3


def cases(signal):
    """name -> (parameters, label, rounds)"""
    sign = (signal > 0.8).astype(int)
    thirds = np.digitize(signal, np.quantile(signal, [0.3, 0.6]))
    tree = dict(max_depth=4, tree_method="hist", nthread=1, seed=7)
    binary = dict(tree, objective="binary:logistic")
    squared = dict(tree, objective="reg:squarederror")
    softprob = dict(tree, objective="multi:softprob", num_class=3)
    found = {
        "binary": (binary, sign, 8),
        "binary-exact": (dict(binary, tree_method="exact", gamma=3, max_depth=6), sign, 3),
        "binary-base": (dict(binary, base_score=1e-7, max_depth=3, min_child_weight=0), sign, 4),
        "forest": (dict(binary, num_parallel_tree=3, subsample=0.5, colsample_bynode=0.6), sign, 2),
        "stump": (dict(squared, max_depth=1), signal, 1),
        "leaf": (dict(squared, gamma=1e9), signal + 5, 1),
        "regression": (squared, signal * 1.5 + 3, 8),
        "regression-base": (dict(squared, base_score=-2.5), signal, 5),
        "multitarget": (dict(squared, max_depth=3), np.column_stack([signal, 2 - signal, signal**2]), 3),
        "softprob": (dict(softprob, max_depth=3), thirds, 4),
        "softprob-forest": (dict(softprob, num_parallel_tree=2, subsample=0.5, max_depth=2), thirds, 2),
    }
    if VERSION >= (3, 2):  # the first that accepts the edges of the interval
        found["binary-never"] = (dict(binary, base_score=0.0, max_depth=2, min_child_weight=0), sign, 2)
        found["binary-always"] = (dict(binary, base_score=1.0, max_depth=2, min_child_weight=0), sign, 2)
    return found


def splits(model):
    """Every (feature, threshold) of a saved JSON model."""
    trees = json.loads(model)["learner"]["gradient_booster"]["model"]["trees"]
    return [
        (tree["split_indices"][node], np.float32(tree["split_conditions"][node]))
        for tree in trees
        for node, left in enumerate(tree["left_children"])
        if left >= 0
    ]


def rows_to_score(x, model):
    """Ordinary rows, rows on and one ulp beside thresholds, rows of one odd value, rows with one odd value."""
    rng = np.random.default_rng(21)
    rows = [x[k] for k in range(12)]
    chosen = splits(model)
    for k in rng.permutation(len(chosen))[:12]:
        feature, threshold = chosen[k]
        for value in (threshold, np.nextafter(threshold, F32.max), np.nextafter(threshold, F32.min)):
            rows.append(np.nan_to_num(rng.choice(x), nan=0.25))
            rows[-1][feature] = value
    odd = [0.0, -0.0, 1.0, -1.0, 1e-45, 3e30, -3e30, F32.max, F32.min, np.inf, -np.inf, np.nan]
    for value in odd:
        rows.append(np.full(x.shape[1], value, dtype=np.float32))
        rows.append(rng.choice(x).copy())
        rows[-1][rng.integers(x.shape[1])] = value
    return np.array(rows, dtype=np.float32)


def score(booster, rows):
    """xgboost's scores, one line a row. A DMatrix refuses infinities, inplace_predict takes them as numbers."""
    scores = booster.inplace_predict(rows)
    finite = ~np.isinf(rows).any(axis=1)
    plain = booster.predict(xgb.DMatrix(rows[finite]))
    assert np.array_equal(scores[finite], plain), "the two ways of scoring differ"
    return scores.reshape(len(rows), -1)


def exact(table):
    def cell(value):
        return float(value) if np.isfinite(value) else {np.inf: "inf", -np.inf: "-inf"}.get(float(value), "NaN")

    return [[cell(value) for value in row] for row in table]


def record(out, name, booster, x):
    for extension in ("json", "ubj"):
        booster.save_model(out / f"{name}.{extension}")
    rows = rows_to_score(x, (out / f"{name}.json").read_text())
    record_scores(out / f"{name}.expected.json", out / f"{name}.ubj", rows)


def record_scores(out, model_file, rows):
    # Score what was saved, not what is in memory: base_score loses digits on the way.
    loaded = xgb.Booster(params=dict(nthread=1), model_file=model_file)
    expected = dict(xgboost=xgb.__version__, rows=exact(rows), scores=exact(score(loaded, rows)))
    out.write_text(json.dumps(expected) + "\n")


def record_job_model(out):
    """The scores of the predictive-maintenance job's model: temperature deviation, vibration, pressure."""
    folder = pathlib.Path(__file__).parent / "../../jobs/model"
    rng = np.random.default_rng(22)
    x = rng.uniform([0, 0, 80], [20, 0.12, 115], (400, 3)).astype(np.float32)
    x[300:][rng.random((100, 3)) < 0.3] = np.nan
    rows = np.concatenate([x, rows_to_score(x, (folder / "model.json").read_text())])
    record_scores(out / "jobs-model.expected.json", folder / "model.ubj", rows)


def record_refused_old(out, x, signal):
    """What only xgboost 1 writes: its binary format, and categorical splits with NaN for a threshold."""
    plain = xgb.DMatrix(x, label=(signal > 0).astype(int))
    booster = xgb.train(dict(max_depth=2, objective="binary:logistic"), plain, 1)
    booster.save_model(out / "old-binary.deprecated")
    codes = np.nan_to_num(x) + 3
    types = list("qcqqq")
    coded = xgb.DMatrix(codes.round(), label=codes[:, 1] % 2, feature_types=types, enable_categorical=True)
    booster = xgb.train(dict(max_depth=2, tree_method="hist", max_cat_to_onehot=1), coded, 1)
    booster.save_model(out / "categorical-nan.json")


def record_refused(out, x, signal):
    """One tiny model of each kind that the loader must refuse by name."""
    sign = (signal > 0).astype(int)
    codes = x.copy()
    codes[:, 1] += 2
    tree = dict(max_depth=2, tree_method="hist", nthread=1)
    two = np.column_stack([signal, -signal])
    plain = xgb.DMatrix(x, label=sign)
    odd = np.isin(codes[:, 1], [0, 3])
    coded = xgb.DMatrix(codes, label=odd, feature_types=list("qcqqq"), enable_categorical=True)
    kinds = {
        "dart": (dict(tree, booster="dart"), plain),
        "gblinear": (dict(booster="gblinear", updater="coord_descent", nthread=1), plain),
        "categorical": (dict(tree, max_cat_to_onehot=1), coded),
        "categorical-onehot": (dict(tree, max_cat_to_onehot=9), coded),
        "multi-output-tree": (dict(tree, multi_strategy="multi_output_tree"), xgb.DMatrix(x, label=two)),
        "softmax": (dict(tree, objective="multi:softmax", num_class=2), plain),
        "poisson": (dict(tree, objective="count:poisson"), plain),
    }
    for name, (parameters, data) in kinds.items():
        booster = xgb.train(parameters, data, 1)
        for extension in ("json", "ubj"):
            booster.save_model(out / f"{name}.{extension}")


def main():
    out = pathlib.Path(sys.argv[1])
    x, signal = training_data()
    folder = out / f"xgboost-{xgb.__version__}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, (parameters, label, rounds) in cases(signal).items():
        record(folder, name, xgb.train(parameters, xgb.DMatrix(x, label=label), rounds), x)
    refused = out / "refused"
    refused.mkdir(exist_ok=True)
    if VERSION[0] == 1:
        record_refused_old(refused, x, signal)
    if VERSION[0] == 3:
        record_refused(refused, x, signal)
        record_job_model(out)


if __name__ == "__main__":
    main()
