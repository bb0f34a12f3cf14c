//! Packets, with libFuzzer: `dev/fuzz`.
#![no_main]

use std::sync::LazyLock;

use ingest::fuzz::Checker;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static CHECKER: LazyLock<Option<Checker>> = LazyLock::new(Checker::new);

fuzz_target!(|case: &[u8]| {
    let wrong = match &*CHECKER {
        Some(checker) => checker.check(case).err(),
        None => Some("the registry or a mapping cannot be made".to_owned()),
    };
    assert_eq!(wrong, None);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // libFuzzer's own bytes now and then: it knows what comparisons failed
    if seed.is_multiple_of(3) {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut case = data[..size].to_vec();
    ingest::fuzz::bend(&mut case, u64::from(seed));
    let size = case.len().min(max_size);
    data[..size].copy_from_slice(&case[..size]);
    size
});
