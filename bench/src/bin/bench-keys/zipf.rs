//! Keys that are drawn at random, a few of them much more often than the others (Zipf's law).

/// The numbers from 0 to below a limit, number n with a weight of 1 / (n + 1)^exponent. Drawing one takes the same time for all
/// weights: by the alias method (Walker 1977, Vose 1991).
pub(crate) struct Zipf {
    /// In every column the share of its own number, and the number that has the rest of it.
    columns: Vec<(f32, u32)>,
}

impl Zipf {
    pub(crate) fn new(numbers: usize, exponent: f64) -> Zipf {
        let weights: Vec<f64> = (1..=numbers).map(|n| (n as f64).powf(-exponent)).collect();
        let mean = weights.iter().sum::<f64>() / numbers as f64;
        let mut left: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..numbers).partition(|&n| left[n] < 1.0);
        let mut columns: Vec<(f32, u32)> = (0..numbers as u32).map(|n| (1.0, n)).collect();
        while let (Some(&to), Some(from)) = (large.last(), small.pop()) {
            columns[from] = (left[from] as f32, to as u32);
            left[to] -= 1.0 - left[from];
            if left[to] < 1.0 {
                large.pop();
                small.push(to);
            }
        }
        Zipf { columns }
    }

    /// The number for a seed: always the same.
    #[inline]
    pub(crate) fn draw(&self, seed: u64) -> u64 {
        // The finalizer of splitmix64 (Steele, Lea and Flood 2014).
        let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        let column = (((x >> 32) * self.columns.len() as u64) >> 32) as usize;
        let (own, other) = self.columns[column];
        let place = (x as u32 >> 8) as f32 / (1 << 24) as f32;
        if place < own { column as u64 } else { u64::from(other) }
    }
}
