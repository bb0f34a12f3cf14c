//! P2: inside the horizon a late reading amends; beyond it, it is stored, shown and counted.

use engine::{Arrival, Config, Engine, Output};
use proptest::prelude::*;
use schemas::{EventTime, Input, Metric, Offset, Reading, ReadingId};

use super::generator::{EVERYTHING, HOUR, MINUTE, Mix, SECOND as ONE_SECOND, histories, patient};
use super::rules::FIRST;
use super::run;

const MIX: Mix = Mix { patients: 1, channels: &[0, 0, 0, 1, 2], rules: 0, moves: 0, ..EVERYTHING };
const WINDOW: i64 = 5 * MINUTE;

/// After any history, one reading that is late by some time.
#[test]
fn p2_a_late_reading_amends_or_is_stored_shown_and_counted() {
    // mostly near the horizon, which is inside
    let late_by = prop_oneof![3 => 1_i64..14_400, 1 => 7198_i64..7203];
    run::hold("P2", 120, &(histories(MIX), late_by, 0_u8..44), |(history, late_by, value)| {
        let mut log = history.arrivals(&[FIRST]);
        let seen = |arrival: &Arrival| match &arrival.input {
            Input::Reading(r) if r.metric == Metric::Spo2 => Some(r.clone()),
            _ => None,
        };
        let Some(like) = log.iter().find_map(seen) else { return Ok(()) };
        let frontier = log.iter().filter_map(seen).map(|r| r.at.0).max().unwrap();
        // of a device of its own, so that it is no other's resend
        let device = schemas::DeviceId::parse("visitor").unwrap();
        let at = EventTime(frontier - late_by * ONE_SECOND);
        let (value, test) = (78.0 + f64::from(*value) / 2.0, false);
        let id = ReadingId::new(&device, Metric::Spo2, at, None);
        let late = Reading { id, device, at, stamped_at: at, value, test, clock: schemas::ClockState::AsSent, boot: None, ..like };
        let clock = log.iter().map(|arrival| arrival.arrived_at).max().unwrap();
        // what the clock has closed is said when something arrives
        log.push(Arrival { offset: Offset(log.len() as i64), arrived_at: clock, input: Input::Tick });
        let mut engine = Engine::new(Config::default());
        let before = engine.apply(&log);
        let (stats, revision) = (engine.stats(), newest(&before, at));
        log.push(Arrival { offset: Offset(log.len() as i64), arrived_at: clock, input: Input::Reading(late) });
        let outputs = engine.apply(&log[log.len() - 1..]);

        let beyond = late_by * ONE_SECOND > 2 * HOUR;
        let samples = engine.samples(&patient(0), Metric::Spo2, EventTime::MIN);
        let Some(sample) = samples.iter().find(|sample| sample.id == id) else { return Err("it is not stored".to_owned()) };
        if (sample.late, sample.beyond, sample.value, sample.at) != (true, beyond, value, at) {
            return Err(format!("it is shown as {sample:?}"));
        }
        let now = engine.stats();
        let counted = (now.readings - stats.readings, now.late - stats.late, now.beyond_horizon - stats.beyond_horizon);
        if counted != (1, 1, u64::from(beyond)) {
            return Err(format!("it is counted as {counted:?}"));
        }
        if beyond {
            return if outputs.is_empty() && now.rows == stats.rows { Ok(()) } else { Err(format!("beyond the horizon it says {outputs:?}")) };
        }
        let start = at.0.div_euclid(WINDOW) * WINDOW;
        let said: Vec<_> = outputs.iter().filter_map(|output| if let Output::Window(window) = output { Some(window) } else { None }).collect();
        // a window is open when it is the frontier's and the clock has not closed it
        let clean = samples.iter().filter(|sample| !sample.beyond && sample.at.0.div_euclid(WINDOW) * WINDOW == start).count() as u64;
        let expected = match revision {
            // it is of what stands there now: a void from beyond the horizon takes the sample, and says no window (docs/gaps.md)
            Some(revision) => vec![(start, revision + 1, clean)],
            None if start + WINDOW <= frontier => vec![(start, 0, 1)],
            None => vec![],
        };
        let said: Vec<_> = said.iter().map(|window| (window.start.0, window.revision, window.count)).collect();
        if said == expected { Ok(()) } else { Err(format!("inside the horizon it says the windows {said:?}, not {expected:?}")) }
    });
}

/// The revision of the window that `at` lies in.
fn newest(outputs: &[Output], at: EventTime) -> Option<u32> {
    let windows = outputs.iter().filter_map(|output| if let Output::Window(window) = output { Some(window) } else { None });
    let mine = windows.filter(|window| window.metric == Metric::Spo2 && (window.start..window.end).contains(&at));
    mine.map(|window| window.revision).max()
}
