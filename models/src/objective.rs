//! The objectives: where a sum of leaves starts, and how it becomes a score.
//!
//! The formulas are those of xgboost's `common/math.h` (sigmoid, softmax) and `objective/regression_loss.h`
//! (logit), in f32 as there, except for the f64 sum of the softmax.

use crate::error::Fault;

/// xgboost's `kRtEps`: how far a base_score stays from 0 and 1, since 3.2.
const BASE_EDGE: f32 = 1e-6;

/// What a model was trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Objective {
    /// One probability a target.
    BinaryLogistic,
    /// One value a target, in the units of the label.
    SquaredError,
    /// One probability a class; they add up to 1.
    Softprob,
}

impl Objective {
    pub(crate) fn named(name: &str) -> Result<Objective, Fault> {
        match name {
            "binary:logistic" => Ok(Objective::BinaryLogistic),
            "reg:squarederror" => Ok(Objective::SquaredError),
            "multi:softprob" => Ok(Objective::Softprob),
            "multi:softmax" => Err(Fault::unsupported(
                "the objective multi:softmax is not supported",
                "train with multi:softprob, whose largest output is the class of multi:softmax",
            )),
            _ => Err(Fault::unsupported(
                format!("the objective {name} is not supported"),
                "train with binary:logistic, reg:squarederror or multi:softprob",
            )),
        }
    }

    /// The margin that a `base_score` stands for in a file of xgboost `version` (major, minor), or none if that
    /// version would refuse the base_score. For binary:logistic it is a probability; 3.2 took to moving it off
    /// 0 and 1, where the older ones refuse it.
    pub(crate) fn margin(self, base_score: f32, version: (usize, usize)) -> Option<f32> {
        if self != Objective::BinaryLogistic {
            return base_score.is_finite().then_some(base_score);
        }
        let probability = match version {
            (3, 2..) => base_score.clamp(BASE_EDGE, 1.0 - BASE_EDGE),
            _ => base_score,
        };
        let margin = -(1.0 / probability - 1.0).ln();
        (margin.is_finite() && (0.0..=1.0).contains(&base_score)).then_some(margin)
    }

    /// Turns a row's margins into its scores, in place.
    pub(crate) fn transform(self, margins: &mut [f32]) {
        match self {
            Objective::BinaryLogistic => margins.iter_mut().for_each(|margin| *margin = sigmoid(*margin)),
            Objective::SquaredError => {}
            Objective::Softprob => softmax(margins),
        }
    }
}

fn sigmoid(margin: f32) -> f32 {
    let below_overflow = (-margin).min(88.7);
    1.0 / (below_overflow.exp() + 1.0)
}

fn softmax(margins: &mut [f32]) {
    let max = margins.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0f64;
    for margin in margins.iter_mut() {
        *margin = (*margin - max).exp();
        sum += f64::from(*margin);
    }
    margins.iter_mut().for_each(|margin| *margin /= sum as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_score_is_a_probability_for_logistic_only() {
        assert_eq!(Objective::BinaryLogistic.margin(0.5, (2, 1)), Some(0.0));
        assert_eq!(Objective::SquaredError.margin(0.5, (2, 1)), Some(0.5));
        assert_eq!(Objective::Softprob.margin(-7.0, (2, 1)), Some(-7.0));
        assert_eq!(Objective::SquaredError.margin(f32::INFINITY, (3, 2)), None);
    }

    #[test]
    fn base_scores_at_the_edge_are_moved_in_since_3_2() {
        for edge in [0.0, 1.0] {
            assert_eq!(Objective::BinaryLogistic.margin(edge, (3, 1)), None);
            assert!(Objective::BinaryLogistic.margin(edge, (3, 2)).is_some());
        }
        for outside in [-0.1, 1.1, f32::NAN] {
            assert_eq!(Objective::BinaryLogistic.margin(outside, (3, 2)), None);
        }
    }
}
