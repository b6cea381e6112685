use proptest::prelude::*;

use super::*;

fn set(fields: &[u32]) -> Set {
    Set {
        key_length: 2,
        fields: fields.to_vec(),
        is_map: false,
        intervals: true,
        elements: Vec::new(),
        changes: false,
    }
}

fn start(key: [u8; 2]) -> Point {
    Point {
        key: Some(key.to_vec()),
        upper: None,
        ends: false,
        value: None,
        expressions: Vec::new(),
    }
}

fn end(key: [u8; 2]) -> Point {
    Point {
        ends: true,
        ..start(key)
    }
}

fn ranges(set: &Set, points: Vec<Point>) -> Vec<Option<(Vec<u8>, Vec<u8>)>> {
    let (elements, odd) = elements(set, points);
    assert_eq!(odd, 0);
    elements.into_iter().map(|element| element.range).collect()
}

fn range(low: [u8; 2], high: [u8; 2]) -> Option<(Vec<u8>, Vec<u8>)> {
    Some((low.to_vec(), high.to_vec()))
}

#[test]
fn intervals_are_joined_whatever_the_order_of_the_tree() {
    let points = vec![
        end([1, 0]),
        start([0, 5]),
        start([2, 0]),
        end([0, 0]),
        start([1, 0]),
        end([1, 9]),
    ];
    assert_eq!(
        ranges(&set(&[]), points),
        [
            range([0, 5], [0, 255]),
            range([1, 0], [1, 8]),
            range([2, 0], [255, 255])
        ]
    );
}

#[test]
fn a_catch_all_and_concatenated_ranges_stand_for_themselves() {
    let all = Point {
        key: None,
        ..start([0, 0])
    };
    let wide = Point {
        upper: Some(vec![3, 4]),
        ..start([1, 2])
    };
    let points = vec![wide, all, start([9, 9])];
    assert_eq!(
        ranges(&set(&[1, 1]), points),
        [range([1, 2], [3, 4]), None, range([9, 9], [9, 9])]
    );
}

proptest! {
    /// Against the kernel's own rule: the last point at or before a key decides.
    #[test]
    fn a_key_is_in_an_interval_as_the_tree_has_it(
        points in prop::collection::btree_map(any::<u8>(), any::<bool>(), 0..20),
        key in any::<u8>(),
    ) {
        let inside = points.range(..=key).next_back().is_some_and(|(_, ends)| !ends);
        let points = points
            .into_iter()
            .rev()
            .map(|(key, ends)| Point { ends, ..start([0, key]) })
            .collect();
        let found = ranges(&set(&[]), points).into_iter().flatten().any(|(low, high)| {
            low.as_slice() <= &[0, key][..] && &[0, key][..] <= high.as_slice()
        });
        prop_assert_eq!(found, inside);
    }
}
