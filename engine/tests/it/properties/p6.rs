//! P6, the engine's half: a snapshot at `next` holds what every record before it caused, and nothing of what comes after. The processor's half, that it is published
//! only when those outputs are durable, is held where they are published.

use engine::{Config, Engine};
use proptest::prelude::*;
use schemas::Offset;

use super::generator::{EVERYTHING, histories};
use super::rules::{FIRST, SECOND};
use super::{run, same, told};

#[test]
fn p6_a_snapshot_at_next_is_between_what_was_caused_before_and_after() {
    run::hold("P6", 60, &(histories(EVERYTHING), any::<prop::sample::Index>()), |(history, cut)| {
        let log = history.arrivals(&[FIRST, SECOND]);
        let cut = cut.index(log.len() + 1);
        let golden = told(&log);
        let mut engine = Engine::new(Config::default());
        let before = engine.apply(&log[..cut]);
        let bytes = engine.snapshot().map_err(|error| error.to_string())?;
        // who goes on after the snapshot was taken leaves it as it is
        engine.apply(&log[cut..]);
        let mut restored = Engine::restore(Config::default(), &bytes).map_err(|error| error.to_string())?;
        if restored.next() != Offset(cut as i64) {
            return Err(format!("it is of {:?}, not {cut}", restored.next()));
        }
        let place = golden.partition_point(|output| output.cause().offset < restored.next());
        same("before the snapshot", &before, &golden[..place])?;
        // a replay that begins before it says nothing of that again
        let from = cut.saturating_sub(5);
        same("after it", &restored.apply(&log[from..]), &golden[place..])?;
        let numbered = golden.iter().map(|output| (output.cause().offset, output.cause().ordinal)).collect::<Vec<_>>();
        if numbered.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(format!("causes are not in order: {numbered:?}")) }
    });
}
