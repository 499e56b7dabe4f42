//! The share that one group may take of what all groups have in common.

/// The places that a group may take for each one that it leaves free: alone it gets three quarters
/// of them.
const TAKEN_PER_FREE: usize = 3;

/// Whether a group that holds `own` of `max` places may take one more, while all groups together
/// hold `taken`.
///
/// A group stops at three times of what is free. So there is always a place for one that comes
/// later, and groups that all want as much as they can get end up with equal shares:
///
/// ```text
/// of 256:  1 group 192   2 groups 110 each   3 groups 77   8 groups 31
/// ```
pub(crate) fn may_take(own: usize, taken: usize, max: usize) -> bool {
    own < max.saturating_sub(taken).saturating_mul(TAKEN_PER_FREE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of each group, when all of them take what they may.
    fn shares(groups: usize, max: usize) -> Vec<usize> {
        let mut own = vec![0; groups];
        while let Some(next) = (0..groups).find(|&next| may_take(own[next], own.iter().sum(), max)) {
            own[next] += 1;
            own.rotate_left(1);
        }
        own.sort_unstable();
        own
    }

    #[test]
    fn a_place_is_left_and_shares_are_equal() {
        assert_eq!(shares(1, 256), [192]);
        assert_eq!(shares(2, 256), [110, 110]);
        assert_eq!(shares(3, 256), [77, 77, 77]);
        let eight = shares(8, 256);
        assert!(eight[7] - eight[0] <= 1 && eight.iter().sum::<usize>() < 256, "{eight:?}");
    }

    #[test]
    fn few_places_are_all_taken() {
        assert_eq!([shares(1, 1), shares(1, 2), shares(1, 3), shares(1, 4)], [[1], [2], [3], [3]]);
    }

    #[test]
    fn who_comes_later_finds_a_place() {
        assert!(!may_take(192, 192, 256) && may_take(0, 192, 256));
        assert!(!may_take(0, 256, 256));
    }
}
