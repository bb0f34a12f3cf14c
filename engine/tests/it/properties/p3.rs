//! P3: a device's clock affects only the metrics that it measures.

use std::collections::BTreeSet;

use engine::Output;
use proptest::prelude::*;
use schemas::{EventTime, Input, Metric, ReadingId};

use super::generator::{CHANNELS, EVERYTHING, Mix, SECOND as ONE_SECOND, histories};
use super::rules::FIRST;
use super::{run, same, told};

const MIX: Mix = Mix { rules: 0, moves: 0, skewed: 0, ..EVERYTHING };

#[test]
fn p3_a_device_s_clock_affects_only_what_it_measures() {
    let device = prop::sample::select(vec!["oximeter", "finger", "belt", "scale"]);
    run::hold("P3", 60, &(histories(MIX), device, -90_000_i64..90_000, any::<prop::sample::Index>()), |(history, device, wrong_s, from)| {
        let log = history.arrivals(&[FIRST]);
        let mut shifted = log.clone();
        let from = from.index(log.len());
        // from some moment on, its clock is wrong; what is sent again or voided bears the stamp that it had
        let begins = log[from].arrived_at;
        for arrival in &mut shifted {
            let wrong = |at: EventTime, received: EventTime| if received.0 >= begins.0 { EventTime(at.0 + wrong_s * ONE_SECOND) } else { at };
            if let Input::Reading(r) = &mut arrival.input
                && r.device.as_str().starts_with(device)
            {
                r.at = wrong(r.at, r.received_at);
                r.stamped_at = r.at;
                r.id = ReadingId::new(&r.device, r.metric, r.stamped_at, r.boot);
            }
        }
        let measures: BTreeSet<Metric> = CHANNELS.iter().filter(|(name, _)| name == device).map(|(_, metric)| *metric).collect();
        let others = |outputs: Vec<Output>| -> Vec<Output> { outputs.into_iter().filter_map(|output| apart(output, &measures)).collect() };
        same("with a clock that is wrong", &others(told(&shifted)), &others(told(&log)))
    });
}

/// What the device has no part in, without the ordinal.
fn apart(mut output: Output, measures: &BTreeSet<Metric>) -> Option<Output> {
    match &mut output {
        Output::Window(window) => {
            window.cause.ordinal = 0;
            (!measures.contains(&window.metric)).then_some(output)
        }
        Output::Transition(transition) => {
            transition.cause.ordinal = 0;
            let looks_at: &[Metric] = match transition.rule.as_str() {
                "both" => &[Metric::Spo2, Metric::HeartRate],
                "fast" => &[Metric::HeartRate],
                "breath" | "belt-silent" => &[Metric::RespiratoryRate],
                "gain" => &[Metric::Weight],
                _ => &[Metric::Spo2],
            };
            (!looks_at.iter().any(|metric| measures.contains(metric))).then_some(output)
        }
    }
}
