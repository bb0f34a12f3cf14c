//! Snapshots of before: `format-2.snapshot` was written by the engine of that format, after twelve minutes of a patient.

use engine::{Config, Engine, Output, SnapshotError};
use schemas::{Arrived, DeviceId, EventTime, Input, Metric, Offset, PatientId, ReadingId, TransitionKind};

use crate::{minutes, reading};

const FORMAT_2: &[u8] = include_bytes!("fixtures/format-2.snapshot");

#[test]
fn a_snapshot_of_format_2_goes_on() {
    let mut engine = Engine::restore(Config::default(), FORMAT_2).unwrap();
    let ada = PatientId::parse("ada").unwrap();
    let samples = engine.samples(&ada, Metric::Spo2, EventTime::MIN);
    // one of twelve was voided; one had a clock that could not be true
    assert_eq!(samples.iter().map(|s| s.value).collect::<Vec<_>>(), [95.0, 95.0, 95.0, 80.0, 80.0, 80.0, 80.0, 80.0, 80.0, 80.0, 80.0]);
    let device = DeviceId::parse("device-spo2").unwrap();
    let corrected = ReadingId::new(&device, Metric::Spo2, EventTime(10_000_000), Some(minutes(2.0) as u64 / 3_600_000_000));
    assert_eq!((samples[1].id, samples[1].stamped_at), (corrected, EventTime(10_000_000)));
    assert_eq!(samples[2].id, ReadingId::new(&device, Metric::Spo2, EventTime(minutes(3.0)), None));
    assert_eq!(engine.open_alerts(&ada).iter().map(|open| open.rule.as_str().to_owned()).collect::<Vec<_>>(), ["low"]);
    assert_eq!(engine.settings(&ada).unwrap().limits["spo2.low"], 88.0);

    let mut said = Vec::new();
    let mut next = engine.next().0;
    let mut apply = |engine: &mut Engine, minute: f64, value: f64, arrived: f64| {
        let input = Input::Reading(reading(Metric::Spo2, value, minutes(minute)));
        said.extend(engine.apply(&[engine::Arrival { offset: Offset(next), arrived_at: Arrived(minutes(arrived)), input }]));
        next += 1;
    };
    // what was voided stays so, and a resend is known
    apply(&mut engine, 1.0, 95.0, 12.0);
    apply(&mut engine, 3.0, 95.0, 12.0);
    for minute in 12..18 {
        apply(&mut engine, f64::from(minute), 97.0, f64::from(minute));
    }
    assert_eq!((engine.stats().duplicates, engine.samples(&ada, Metric::Spo2, EventTime::MIN).len()), (1, 17));
    let told: Vec<_> = said.iter().filter_map(|o| if let Output::Transition(t) = o { Some((t.rule.as_str(), t.kind, t.at.0)) } else { None }).collect();
    assert_eq!(told, [("low", TransitionKind::Cleared, minutes(14.0))]);
}

#[test]
fn an_unknown_format_is_refused_with_the_way_out() {
    for format in [1_u32, 4, 1000] {
        let mut bytes = FORMAT_2.to_vec();
        bytes[8..12].copy_from_slice(&format.to_le_bytes());
        let error = Engine::restore(Config::default(), &bytes).unwrap_err();
        assert_eq!(error, SnapshotError::Format(format));
        assert!(error.to_string().contains("take the snapshot away"), "{error}");
    }
}
