//! The middle, the tail and the worst of a set of figures.

/// Figures, in order.
#[derive(Debug, Default, Clone)]
pub struct Figures(Vec<f64>);

impl Figures {
    /// Puts them in order.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Figures {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        Figures(figures)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The figure that a share of them does not exceed; 0 where there are none.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }

    /// The greatest.
    pub fn max(&self) -> f64 {
        self.0.last().copied().unwrap_or(0.0)
    }

    /// The arithmetic mean.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }

    /// "p50 1.2, p99 3.4, most 5.6" as cells.
    pub fn cells(&self) -> [String; 3] {
        [self.quantile(0.5), self.quantile(0.99), self.max()].map(|x| format!("{x:.1}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_nearest_figure() {
        let figures = Figures::of((1..=100).rev().map(f64::from));
        assert_eq!([figures.quantile(0.5), figures.quantile(0.99), figures.max()], [50.0, 99.0, 100.0]);
        assert_eq!(Figures::of([]).quantile(0.5), 0.0);
    }
}
