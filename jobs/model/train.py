"""Train the fault model of the predictive-maintenance job and save it as model.json and model.ubj.

usage: train.py OUTDIR        (written with xgboost-cpu==3.2.0 and numpy 2.4; one thread, fixed seeds: the same
                               versions write the same bytes again)

The model: binary:logistic, 100 trees of depth 6. It gives the probability that a machine is about to fail, from
what the job knows of one device in one window, in this order:

    feature                       unit              range trained on
    0  temperature deviation      degrees Celsius   0 .. 20       standard deviation within the window
    1  mean vibration             as measured       0 .. 0.12
    2  mean pressure              as measured       80 .. 115

The data are synthetic: rows are drawn uniformly from these ranges, and labels from a logistic model that makes a
fault likelier the more the temperature swings, the stronger the vibration and the lower the pressure.
"""

import pathlib
import sys

import numpy as np
import xgboost as xgb

ROWS = 200_000
ROUNDS = 100
PARAMETERS = dict(
    objective="binary:logistic",
    max_depth=6,
    eta=0.1,
    tree_method="hist",
    base_score=0.5,
    nthread=1,
    seed=7,
)


def features(rng):
    columns = [rng.uniform(0, 20, ROWS), rng.uniform(0, 0.12, ROWS), rng.uniform(80, 115, ROWS)]
    return np.column_stack(columns).astype(np.float32)


def labels(rng, x):
    log_odds = 0.45 * (x[:, 0] - 8) + 80 * (x[:, 1] - 0.05) - 0.25 * (x[:, 2] - 97)
    return (rng.random(ROWS) < 1 / (1 + np.exp(-log_odds))).astype(np.int32)


def main():
    out = pathlib.Path(sys.argv[1])
    rng = np.random.default_rng(7)
    x = features(rng)
    model = xgb.train(PARAMETERS, xgb.DMatrix(x, label=labels(rng, x)), num_boost_round=ROUNDS)
    for extension in ("json", "ubj"):
        model.save_model(out / f"model.{extension}")


if __name__ == "__main__":
    main()
