//! Which byte of an object is in which shard.

/// Shards of a stripe that hold the object's own bytes, and how many of any it takes to have them back.
pub const DATA_SHARDS: usize = 10;
/// Shards of a stripe.
pub const SHARDS: usize = 18;
/// Bytes of a shard of a whole stripe.
pub const SHARD_BYTES: u64 = 4 << 20;
/// Largest object that is coded, in bytes: 40 GiB.
pub const MAX_OBJECT: u64 = MAX_STRIPES * STRIPE_BYTES;

/// Shards of a stripe that hold code.
pub const CODE_SHARDS: usize = SHARDS - DATA_SHARDS;
/// Bytes of an object in one stripe.
pub const STRIPE_BYTES: u64 = DATA_SHARDS as u64 * SHARD_BYTES;

const MAX_STRIPES: u64 = 1024;
/// Bytes of a shard in one row.
const SEGMENT: usize = 64 << 10;
/// Fewest bytes of a shard in one row. In the few bytes of a tiny object two shards of code may well be alike, and then
/// they are one object, and lost together.
const MIN_SEGMENT: usize = 64;
const ROW: usize = DATA_SHARDS * SEGMENT;

/// What one round over the shards of a stripe holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Bytes of the object.
    pub data: usize,
    /// Bytes of each shard: even, as the code wants it.
    pub segment: usize,
}

/// How many stripes an object of that many bytes has.
pub const fn stripes(length: u64) -> u64 {
    length.div_ceil(STRIPE_BYTES)
}

/// Bytes of the object in the stripe of this number.
pub fn stripe_length(length: u64, stripe: u64) -> u64 {
    length
        .saturating_sub(stripe.saturating_mul(STRIPE_BYTES))
        .min(STRIPE_BYTES)
}

/// The rows of a stripe that has that many bytes of the object.
pub fn rows(mut stripe_length: u64) -> impl Iterator<Item = Row> {
    std::iter::from_fn(move || {
        let data = stripe_length.min(ROW as u64) as usize;
        stripe_length -= data as u64;
        let even = data.div_ceil(DATA_SHARDS).next_multiple_of(2);
        let segment = even.max(MIN_SEGMENT);
        (data > 0).then_some(Row { data, segment })
    })
}

/// Bytes of each shard of a stripe that has that many bytes of the object.
pub fn shard_length(stripe_length: u64) -> u64 {
    rows(stripe_length).map(|row| row.segment as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_of_a_whole_stripe_have_their_size_and_others_are_hardly_longer_than_their_part() {
        assert_eq!(shard_length(STRIPE_BYTES), SHARD_BYTES);
        for (length, shard) in [(0, 0), (1, 64), (640, 64), (641, 66), (1_000_003, 100_002)] {
            assert_eq!(shard_length(length), shard, "{length}");
        }
    }

    #[test]
    fn an_object_is_in_its_stripes_and_rows_exactly_once() {
        for length in [
            0,
            1,
            ROW as u64,
            STRIPE_BYTES,
            STRIPE_BYTES + 1,
            3 * STRIPE_BYTES - 1,
        ] {
            let in_stripes = (0..stripes(length)).map(|stripe| stripe_length(length, stripe));
            let in_rows = in_stripes.flat_map(rows).map(|row| row.data as u64);
            assert_eq!(in_rows.sum::<u64>(), length);
        }
        assert_eq!(stripe_length(7, 1), 0);
    }
}
