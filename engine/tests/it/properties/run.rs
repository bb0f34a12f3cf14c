//! Many cases of a property, each from its own seed, and the smallest that fails.
//!
//! `VIGIL_TEST_CASES` is how many, `VIGIL_TEST_SEED` the run that is repeated, `VIGIL_TEST_CASE` the one of it that is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const SHRINKS: usize = 4000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a number")))
}

/// Of a run that nobody asked to be repeated.
fn chance() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8) >> 32
}

fn runner(seed: u64, case: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&case.to_le_bytes());
    TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// One case at a time, each made of many histories: so many fewer cases.
pub fn hold_long<S: Strategy>(property: &str, histories: u64, strategy: &S, check: impl Fn(&S::Value) -> Result<(), String>) {
    hold_some(property, number("VIGIL_TEST_CASES").map_or(2, |cases| cases.div_ceil(histories)), 1, strategy, |cases| check(&cases[0]));
}

/// One case at a time.
pub fn hold<S: Strategy>(property: &str, short: u64, strategy: &S, check: impl Fn(&S::Value) -> Result<(), String>) {
    hold_together(property, short, 1, strategy, |cases| check(&cases[0]));
}

/// Some cases are asked at once, where asking is what costs; the one that fails is looked for alone.
pub fn hold_together<S: Strategy>(property: &str, short: u64, together: usize, strategy: &S, check: impl Fn(&[S::Value]) -> Result<(), String>) {
    hold_some(property, number("VIGIL_TEST_CASES").unwrap_or(short), together, strategy, check);
}

#[expect(clippy::print_stdout, reason = "the seed and the figures of a run")]
fn hold_some<S: Strategy>(property: &str, cases: u64, together: usize, strategy: &S, check: impl Fn(&[S::Value]) -> Result<(), String>) {
    let seed = number("VIGIL_TEST_SEED").unwrap_or_else(chance);
    let all: Vec<u64> = number("VIGIL_TEST_CASE").map_or_else(|| (0..cases).collect(), |case| vec![case]);
    let outcome = |cases: &[S::Value]| {
        catch_unwind(AssertUnwindSafe(|| check(cases))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("it panicked: {}", text.unwrap_or_default()))
        })
    };
    let begun = std::time::Instant::now();
    for numbers in all.chunks(together) {
        let mut trees: Vec<_> = numbers.iter().map(|case| strategy.new_tree(&mut runner(seed, *case)).unwrap()).collect();
        let values: Vec<_> = trees.iter().map(ValueTree::current).collect();
        if outcome(&values).is_ok() {
            continue;
        }
        for (tree, case) in trees.iter_mut().zip(numbers) {
            let first = tree.current();
            let Err(why) = outcome(std::slice::from_ref(&first)) else { continue };
            let (smallest, why) = shrink(tree, first, why, |value| outcome(std::slice::from_ref(value)));
            panic!("{property} does not hold (VIGIL_TEST_SEED={seed} VIGIL_TEST_CASE={case}): {why}\nof {smallest:?}");
        }
        panic!("{property} does not hold (VIGIL_TEST_SEED={seed}) of the cases {numbers:?} together, and of none alone");
    }
    println!("{property}: {} cases, VIGIL_TEST_SEED={seed}, {:.1} s", all.len(), begun.elapsed().as_secs_f64());
}

fn shrink<T: ValueTree>(tree: &mut T, mut smallest: T::Value, mut why: String, outcome: impl Fn(&T::Value) -> Result<(), String>) -> (T::Value, String) {
    let mut tries = 0;
    while tries < SHRINKS && tree.simplify() {
        loop {
            tries += 1;
            let value = tree.current();
            match outcome(&value) {
                Err(because) => {
                    (smallest, why) = (value, because);
                    break;
                }
                Ok(()) if tries < SHRINKS && tree.complicate() => {}
                Ok(()) => return (smallest, why),
            }
        }
    }
    (smallest, why)
}
