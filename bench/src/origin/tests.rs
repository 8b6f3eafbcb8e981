use super::*;

#[test]
fn bodies_have_their_size_and_begin_with_the_target() {
    assert_eq!(body_of("/abc", 3), b"/ab");
    assert_eq!(body_of("/abc", 0), b"");
    let body = body_of("/1/2", 1000);
    assert!(body.len() == 1000 && body.starts_with(b"/1/2\n0123"));
    assert_ne!(body_of("/1/3", 1000), body);
}

#[test]
fn a_pattern_is_known_to_its_last_byte() {
    for size in [0, 1, 7, 8, 9, 1000] {
        assert_eq!(pattern(7, size).len(), size);
        assert!(is_pattern(&pattern(7, size)));
    }
    let mut damaged = pattern(7, 1000).to_vec();
    damaged[999] ^= 1;
    assert!(!is_pattern(&damaged));
    assert_ne!(pattern(7, 100), pattern(8, 100));
}

#[test]
fn random_times_stay_in_range() {
    let range = Duration::from_millis(5)..=Duration::from_millis(7);
    let mut random = Random::new(0);
    let times: Vec<_> = (0..100).map(|_| random.within(&range)).collect();
    assert!(times.iter().all(|time| range.contains(time)));
    assert!([5, 6, 7].iter().all(|ms| times.contains(&Duration::from_millis(*ms))));
}
