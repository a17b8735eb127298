//! A log-linear histogram of nanoseconds: 64 steps in every power of two, so 1.6 % precision at any size.

/// Counts of values.
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
    sum: u128,
}

impl Histogram {
    /// Without any value.
    pub fn new() -> Self {
        Self { buckets: vec![0; 64 * 64], count: 0, max: 0, sum: 0 }
    }

    fn index(value: u64) -> usize {
        let value = value.max(64);
        let power = 63 - value.leading_zeros() as usize;
        (power - 5) * 64 + ((value >> (power - 6)) as usize & 63)
    }

    fn lower_bound(index: usize) -> u64 {
        let power = index / 64 + 5;
        (1u64 << power) + ((index as u64 & 63) << (power - 6))
    }

    /// One more value, in nanoseconds.
    pub fn add(&mut self, value: u64) {
        self.buckets[Self::index(value)] += 1;
        self.count += 1;
        self.sum += u128::from(value);
        self.max = self.max.max(value);
    }

    /// The value, in milliseconds, that this share (0 to 1) of all values does not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Self::lower_bound(index).min(self.max) as f64 / 1e6;
            }
        }
        0.0
    }

    /// The mean in milliseconds.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 / 1e6 }
    }

    /// The largest value in milliseconds.
    pub fn max(&self) -> f64 {
        self.max as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut h = Histogram::new();
        (1..=1000).for_each(|ms| h.add(ms * 1_000_000));
        for (share, ms) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            assert!((h.quantile(share) - ms).abs() / ms < 0.02, "{share}: {}", h.quantile(share));
        }
        assert_eq!(h.max(), 1000.0);
        assert!((h.mean() - 500.5).abs() < 1e-9);
    }

    #[test]
    fn nothing_measured_is_zero() {
        assert_eq!(Histogram::new().quantile(0.99), 0.0);
    }
}
