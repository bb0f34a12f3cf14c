//! P1: outputs are a function of the partition's inputs in order; a snapshot, wherever it is taken, changes nothing.

use engine::{Config, Engine, Output};
use proptest::prelude::*;
use schemas::{Input, PatientId};

use super::generator::{EVERYTHING, histories, patient};
use super::rules::{FIRST, SECOND};
use super::{run, same, told};

#[test]
fn p1_the_same_inputs_give_the_same_outputs_also_after_any_snapshot() {
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 1..4);
    run::hold("P1", 60, &(histories(EVERYTHING), cuts), |(history, cuts)| {
        let log = history.arrivals(&[FIRST, SECOND]);
        let golden = told(&log);
        same("the second time", &told(&log), &golden)?;
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(log.len() + 1)).collect();
        cuts.sort_unstable();
        let (mut engine, mut outputs) = (Engine::new(Config::default()), Vec::new());
        for cut in cuts {
            outputs.extend(engine.apply(&log[engine.next().0 as usize..cut]));
            let bytes = engine.snapshot().map_err(|error| error.to_string())?;
            let restored = Engine::restore(Config::default(), &bytes).map_err(|error| error.to_string())?;
            if restored.snapshot().map_err(|error| error.to_string())? != bytes {
                return Err(format!("the snapshot of the snapshot at {cut} is another"));
            }
            if (restored.next_due(), restored.stats()) != (engine.next_due(), engine.stats()) {
                return Err(format!(
                    "restored at {cut}: due {:?}, not {:?}; {:?}, not {:?}",
                    restored.next_due(),
                    engine.next_due(),
                    restored.stats(),
                    engine.stats()
                ));
            }
            engine = restored;
        }
        // read from the beginning again: what it knows already says nothing
        outputs.extend(engine.apply(&log));
        same("over snapshots", &outputs, &golden)
    });
}

/// What one patient's alerts and windows are does not hang on what the others of the partition do. The clock is everybody's.
#[test]
fn p1_a_patient_s_outputs_are_no_function_of_others() {
    run::hold("P1, others", 40, &histories(EVERYTHING), |history| {
        let log = history.arrivals(&[FIRST, SECOND]);
        let who = patient(0);
        let mut alone = log.clone();
        for arrival in &mut alone {
            if arrival.input.patient().is_some_and(|patient| *patient != who) {
                arrival.input = Input::Tick;
            }
        }
        same("alone", &of(&who, told(&alone)), &of(&who, told(&log)))
    });
}

/// Without the ordinal, which counts everybody's.
fn of(who: &PatientId, outputs: Vec<Output>) -> Vec<Output> {
    let mine = |output: &Output| match output {
        Output::Window(window) => window.patient == *who,
        Output::Transition(transition) => transition.patient == *who,
    };
    let mut outputs: Vec<Output> = outputs.into_iter().filter(mine).collect();
    for output in &mut outputs {
        match output {
            Output::Window(window) => window.cause.ordinal = 0,
            Output::Transition(transition) => transition.cause.ordinal = 0,
        }
    }
    outputs
}
