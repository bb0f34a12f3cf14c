//! P7: any split of the inputs into batches gives the same outputs.

use engine::{Arrival, Config, Engine};
use proptest::prelude::*;
use schemas::Offset;

use super::generator::{EVERYTHING, histories};
use super::rules::{FIRST, SECOND};
use super::{run, same, told};

#[test]
fn p7_any_split_into_batches_gives_the_same_outputs() {
    let sizes = prop::collection::vec(0_usize..12, 1..40);
    run::hold("P7", 60, &(histories(EVERYTHING), sizes), |(history, sizes)| {
        let log = history.arrivals(&[FIRST, SECOND]);
        let whole = told(&log);
        let (mut engine, mut split, mut sizes) = (Engine::new(Config::default()), Vec::new(), sizes.iter().cycle());
        let mut rest = log.as_slice();
        while !rest.is_empty() {
            let (batch, others) = rest.split_at((*sizes.next().unwrap()).clamp(1, rest.len()));
            // a batch that is delivered twice says nothing twice
            split.extend(engine.apply(batch));
            if !engine.apply(batch).is_empty() {
                return Err(format!("the batch that ends before {:?} said something twice", engine.next()));
            }
            rest = others;
        }
        same("split", &split, &whole)
    });
}

/// More inputs than the engine takes in at once.
#[test]
fn p7_a_long_batch_is_like_its_inputs_one_by_one() {
    run::hold_long("P7, long", 140, &prop::collection::vec(histories(EVERYTHING), 130..150), |histories| {
        let mut log: Vec<Arrival> = Vec::new();
        for history in histories {
            // they go on where the one before ended; rules only once, and with their versions as they come
            let begin = log.last().map_or(0, |last| last.arrived_at.0);
            let mine = history.arrivals(&[FIRST, SECOND]);
            let first = mine[0].arrived_at.0;
            let shift = if log.is_empty() { 0 } else { begin - first };
            log.extend(mine.into_iter().skip(usize::from(!log.is_empty())).map(|mut arrival| {
                arrival.arrived_at.0 += shift;
                arrival
            }));
        }
        for (offset, arrival) in log.iter_mut().enumerate() {
            arrival.offset = Offset(offset as i64);
        }
        let mut engine = Engine::new(Config::default());
        let single: Vec<_> = log.iter().flat_map(|arrival| engine.apply(std::slice::from_ref(arrival))).collect();
        same("one by one", &single, &told(&log))
    });
}
