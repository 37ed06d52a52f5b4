//! Few cases that cover every pair of values.
//!
//! A case is one index per dimension. Most faults of a system with many settings show with one particular
//! value or with two together; a set in which every pair of values occurs finds those at a small part of the
//! cost of the full product. The choice is greedy and deterministic: the same dimensions give the same cases.

use std::collections::BTreeSet;

/// Value `value` of dimension `dimension`.
type Setting = (usize, usize);

/// Returns cases over dimensions with `sizes` values each, in which every possible pair occurs.
///
/// `allowed` judges complete cases; a pair that occurs in no allowed case is left out. Two constraints that
/// together exclude a partial case only are found by trying, so constraints should stay few.
pub fn cover(sizes: &[usize], allowed: impl Fn(&[usize]) -> bool) -> Vec<Vec<usize>> {
    let mut missing = all_pairs(sizes);
    let mut cases = Vec::new();
    while let Some(&pair) = missing.iter().next() {
        match best_case(sizes, pair, &missing, &allowed) {
            Some(case) => {
                missing.retain(|&(a, b)| !(has(&case, a) && has(&case, b)));
                cases.push(case);
            }
            None => {
                missing.remove(&pair);
            }
        }
    }
    cases
}

fn has(case: &[usize], (dimension, value): Setting) -> bool {
    case.get(dimension) == Some(&value)
}

fn all_pairs(sizes: &[usize]) -> BTreeSet<(Setting, Setting)> {
    let settings = || sizes.iter().enumerate().flat_map(|(d, &size)| (0..size).map(move |value| (d, value)));
    settings().flat_map(|a| settings().filter(move |b| a.0 < b.0).map(move |b| (a, b))).collect()
}

/// Builds a case around one pair: the other dimensions in turn take the allowed value that covers most.
fn best_case(
    sizes: &[usize],
    (first, second): (Setting, Setting),
    missing: &BTreeSet<(Setting, Setting)>,
    allowed: &impl Fn(&[usize]) -> bool,
) -> Option<Vec<usize>> {
    let mut chosen: Vec<Option<usize>> = vec![None; sizes.len()];
    for (dimension, value) in [first, second] {
        *chosen.get_mut(dimension)? = Some(value);
    }
    complete(&chosen, sizes, allowed)?;
    for (dimension, &size) in sizes.iter().enumerate() {
        if chosen.get(dimension)?.is_some() {
            continue;
        }
        let gain = |value: usize| {
            let others = chosen.iter().enumerate().filter_map(|(d, v)| v.map(|v| (d, v)));
            let new = (dimension, value);
            others.filter(|&other| missing.contains(&(other.min(new), other.max(new)))).count()
        };
        let mut values: Vec<usize> = (0..size).collect();
        values.sort_by_key(|&value| std::cmp::Reverse(gain(value)));
        let possible = values.into_iter().find(|&value| {
            let mut attempt = chosen.clone();
            attempt.get_mut(dimension).is_some_and(|slot| {
                *slot = Some(value);
                true
            }) && complete(&attempt, sizes, allowed).is_some()
        })?;
        *chosen.get_mut(dimension)? = Some(possible);
    }
    chosen.into_iter().collect()
}

/// Finds an allowed case with the chosen values, the first in lexical order.
fn complete(
    chosen: &[Option<usize>],
    sizes: &[usize],
    allowed: &impl Fn(&[usize]) -> bool,
) -> Option<Vec<usize>> {
    fn extend(
        case: &mut Vec<usize>,
        chosen: &[Option<usize>],
        sizes: &[usize],
        allowed: &impl Fn(&[usize]) -> bool,
    ) -> bool {
        let (Some(&fixed), Some(&size)) = (chosen.get(case.len()), sizes.get(case.len())) else {
            return allowed(case);
        };
        let values = fixed.map_or(0..size, |value| value..value + 1);
        for value in values {
            case.push(value);
            if extend(case, chosen, sizes, allowed) {
                return true;
            }
            case.pop();
        }
        false
    }
    let mut case = Vec::with_capacity(sizes.len());
    extend(&mut case, chosen, sizes, allowed).then_some(case)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(cases: &[Vec<usize>], (a, b): (Setting, Setting)) -> bool {
        cases.iter().any(|case| has(case, a) && has(case, b))
    }

    #[test]
    fn every_pair_occurs() {
        let sizes = [3, 5, 4, 2, 3, 2];
        let cases = cover(&sizes, |_| true);
        assert!(all_pairs(&sizes).into_iter().all(|pair| covered(&cases, pair)));
    }

    #[test]
    fn the_cover_is_much_smaller_than_the_product() {
        let sizes = [3, 5, 4, 2, 3, 2];
        assert!(cover(&sizes, |_| true).len() <= 30, "the product has 720 cases, a perfect cover 20");
    }

    #[test]
    fn an_excluded_combination_does_not_occur_and_its_values_still_do() {
        let sizes = [3, 3, 3];
        let allowed = |case: &[usize]| !(case[0] == 1 && case[1] != 0);
        let cases = cover(&sizes, allowed);
        assert!(cases.iter().all(|case| allowed(case)));
        assert!(covered(&cases, ((0, 1), (1, 0))));
        assert!(covered(&cases, ((0, 1), (2, 2))));
    }
}
