//! P4: a rule on the latest value never waits for a window to close.

use engine::{Config, Engine, Output};
use schemas::{Input, Metric, TransitionKind};

use super::generator::{EVERYTHING, Mix, histories, patient};
use super::run;

const RULE: &str = r#"
[[rule]]
id = "now"
priority = "high"
when = "last(spo2, '2 h') < limit('spo2.low', 90)"
"#;
const MIX: Mix = Mix { patients: 2, channels: &[0, 0, 0, 1, 2, 4], pauses: 0, rules: 0, tests: 0.0, ..EVERYTHING };

/// Whatever came before: once a newest value is in, the alert is open if and only if that value is below the limit, and what was said of it was said by this record.
#[test]
fn p4_a_rule_on_the_latest_value_decides_with_the_reading() {
    run::hold("P4", 150, &histories(MIX), |history| {
        let log = history.arrivals(&[RULE]);
        let mut engine = Engine::new(Config::default());
        for arrival in &log {
            let who = arrival.input.patient().cloned().unwrap_or_else(|| patient(0));
            let newest = engine.latest(&who, Metric::Spo2).map(|latest| latest.id);
            let open = !engine.open_alerts(&who).is_empty();
            let outputs = engine.apply(std::slice::from_ref(arrival));
            let Input::Reading(reading) = &arrival.input else { continue };
            let latest = engine.latest(&who, Metric::Spo2);
            let Some(latest) = latest.filter(|latest| latest.id == reading.id && Some(latest.id) != newest && !latest.late) else { continue };
            let limit = engine.settings(&who).and_then(|settings| settings.limit("spo2.low", reading.at)).unwrap_or(90.0);
            let below = latest.value < limit;
            let said: Vec<_> = outputs
                .iter()
                .filter_map(|output| match output {
                    Output::Transition(t) if !t.late => Some((t.kind, t.at, t.heard_at, t.cause.offset)),
                    _ => None,
                })
                .collect();
            let one = |kind| vec![(kind, reading.at, engine.clock(), arrival.offset)];
            let expected = match (open, below) {
                (false, true) => one(TransitionKind::Raised),
                (true, false) => one(TransitionKind::Cleared),
                _ => vec![],
            };
            if said != expected || engine.open_alerts(&who).is_empty() == below {
                return Err(format!("{latest:?}\nof limit {limit} says {said:?}, not {expected:?}"));
            }
        }
        Ok(())
    });
}
