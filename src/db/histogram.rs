//! How long things took, as counts: what percentiles are read from after the single rows are gone.
//!
//! Up to 16 ms every millisecond has its own bucket; above, each power of two is cut into eight, so a value read back is
//! at most 1/16 off. Stored as pairs of variable-length integers, bucket and count, with rising buckets.

/// Milliseconds below which nothing is rounded.
const EXACT: u64 = 16;
/// Buckets per power of two above that.
const PARTS: u64 = 8;
/// No wait is longer for us: some 12 days.
const LONGEST: u64 = (1 << 30) - 1;

/// Buckets there are: [`LONGEST`] is in the last one.
const BUCKETS: usize = 224;

/// Counts by bucket, up to the last one that counted something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Histogram(Vec<u64>);

impl Histogram {
    /// Counts one value (ms).
    pub(super) fn add(&mut self, ms: i64) {
        let ms = u64::try_from(ms).unwrap_or(0).min(LONGEST);
        self.count(bucket(ms), 1);
    }

    fn count(&mut self, bucket: usize, count: u64) {
        if bucket >= self.0.len() {
            if bucket >= BUCKETS {
                return;
            }
            self.0.resize(bucket + 1, 0);
        }
        if let Some(total) = self.0.get_mut(bucket) {
            *total = total.saturating_add(count);
        }
    }

    /// Adds what another one counted.
    pub(super) fn add_all(&mut self, other: &Self) {
        for (bucket, count) in other.counted() {
            self.count(bucket, count);
        }
    }

    fn counted(&self) -> impl Iterator<Item = (usize, u64)> {
        let counts = self.0.iter().copied().enumerate();
        counts.filter(|(_, count)| *count > 0)
    }

    /// Adds what [`Histogram::to_bytes`] made. What is damaged is left out from where it is.
    pub(super) fn merge(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((bucket, after)) = read(rest) {
            let Some((count, after)) = read(after) else {
                return;
            };
            self.count(usize::try_from(bucket).unwrap_or(BUCKETS), count);
            rest = after;
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 3);
        for (bucket, count) in self.counted() {
            write(&mut bytes, u64::try_from(bucket).unwrap_or_default());
            write(&mut bytes, count);
        }
        bytes
    }

    /// The value (ms) that `percent` of a hundred do not exceed; none of nothing.
    pub(crate) fn percentile(&self, percent: u64) -> Option<u64> {
        let total = self
            .0
            .iter()
            .fold(0, |sum: u64, count| sum.saturating_add(*count));
        let wanted = (total.saturating_mul(percent)).div_ceil(100).max(1);
        let mut seen = 0_u64;
        for (bucket, count) in self.counted() {
            seen = seen.saturating_add(count);
            if seen >= wanted {
                return Some(value(bucket));
            }
        }
        None
    }
}

fn bucket(ms: u64) -> usize {
    usize::try_from(place(ms)).unwrap_or(BUCKETS)
}

fn place(ms: u64) -> u64 {
    if ms < EXACT {
        return ms;
    }
    // From 4 up, since 16 is 2^4; the three bits below the first one tell the part.
    let power = u64::from(ms.ilog2());
    let part = (ms >> (power - 3)) - PARTS;
    EXACT + (power - 4) * PARTS + part
}

/// The middle of a bucket.
fn value(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(0);
    if bucket < EXACT {
        return bucket;
    }
    let above = bucket - EXACT;
    let power = (above / PARTS + 4).min(30);
    let width = 1 << (power - 3);
    (PARTS + above % PARTS) * width + width / 2
}

fn write(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(0x80 | u8::try_from(number & 0x7f).unwrap_or(0x7f));
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap_or(0x7f));
}

fn read(bytes: &[u8]) -> Option<(u64, &[u8])> {
    // Most are one byte long.
    if let [byte @ 0..0x80, rest @ ..] = bytes {
        return Some((u64::from(*byte), rest));
    }
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_of_small_values_are_exact() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(50), None);
        (1..=10).for_each(|ms| histogram.add(ms));
        let read = [0, 50, 95, 100].map(|percent| histogram.percentile(percent));
        assert_eq!(read, [Some(1), Some(5), Some(10), Some(10)]);
    }

    #[test]
    fn the_longest_wait_has_the_last_bucket() {
        assert_eq!(bucket(LONGEST), BUCKETS - 1);
        let mut histogram = Histogram::default();
        histogram.add(i64::MAX);
        histogram.add(-1);
        assert!(histogram.percentile(100) >= Some(LONGEST / 16 * 15));
        assert_eq!(histogram.percentile(1), Some(0));
    }

    proptest! {
        #[test]
        fn a_value_comes_back_nearly_as_it_was(ms in 0i64..1_000_000_000) {
            let mut histogram = Histogram::default();
            histogram.add(ms);
            let read = i64::try_from(histogram.percentile(50).unwrap()).unwrap();
            prop_assert!((read - ms).abs() <= ms / 16, "{} of {}", read, ms);
        }

        #[test]
        fn merging_is_adding(one in prop::collection::vec(any::<i64>(), 0..50), two in prop::collection::vec(0i64..100_000, 0..50)) {
            let mut all = Histogram::default();
            let mut merged = Histogram::default();
            for part in [&one, &two] {
                let mut own = Histogram::default();
                for ms in part { own.add(*ms); all.add(*ms); }
                merged.merge(&own.to_bytes());
            }
            prop_assert_eq!(merged, all);
        }

        #[test]
        fn damaged_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut histogram = Histogram::default();
            histogram.merge(&bytes);
            let _ = histogram.percentile(99);
        }
    }
}
