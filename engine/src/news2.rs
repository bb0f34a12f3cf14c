//! The National Early Warning Score (NEWS2, Royal College of Physicians, 2017): points of each parameter from the chart, and what is known of
//! the sum while some are missing.
//!
//! Nothing is ever imputed: consciousness that nobody looked at is not "alert", oxygen that nobody spoke of is not "on air". What is missing
//! may be worth from 0 to the most that the chart gives, so the score lies between two bounds, and is said only when they are one.

use schemas::{Acvpu, EventTime, Metric, Micros, PatientId, Settings};

use crate::Engine;
use crate::fold::Folded;

/// A parameter, in the order of the chart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Part {
    RespiratoryRate = 0,
    Spo2 = 1,
    Oxygen = 2,
    SystolicPressure = 3,
    Pulse = 4,
    Consciousness = 5,
    Temperature = 6,
}

impl Part {
    pub const ALL: [Self; 7] = [Self::RespiratoryRate, Self::Spo2, Self::Oxygen, Self::SystolicPressure, Self::Pulse, Self::Consciousness, Self::Temperature];

    /// What it is measured by.
    pub const fn metric(self) -> Metric {
        match self {
            Self::RespiratoryRate => Metric::RespiratoryRate,
            Self::Spo2 => Metric::Spo2,
            Self::Oxygen => Metric::OxygenFlow,
            Self::SystolicPressure => Metric::SystolicPressure,
            Self::Pulse => Metric::HeartRate,
            Self::Consciousness => Metric::Consciousness,
            Self::Temperature => Metric::Temperature,
        }
    }

    /// In the API and in the names of columns.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RespiratoryRate => "respiratory_rate",
            Self::Spo2 => "spo2",
            Self::Oxygen => "oxygen",
            Self::SystolicPressure => "systolic_pressure",
            Self::Pulse => "pulse",
            Self::Consciousness => "consciousness",
            Self::Temperature => "temperature",
        }
    }

    /// In a line that people read.
    pub const fn label(self) -> &'static str {
        match self {
            Self::RespiratoryRate => "RR",
            Self::Spo2 => "SpO₂",
            Self::Oxygen => "oxygen",
            Self::SystolicPressure => "systolic BP",
            Self::Pulse => "pulse",
            Self::Consciousness => "consciousness",
            Self::Temperature => "temperature",
        }
    }

    /// The most that the chart gives.
    pub const fn most(self) -> u8 {
        match self {
            Self::Oxygen => 2,
            _ => 3,
        }
    }
}

/// Which row of the chart SpO2 is read from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scale {
    One,
    /// Only on a clinician's documented target of 88–92 %.
    Two,
}

impl Scale {
    pub fn of(settings: Option<&Settings>) -> Self {
        if settings.is_some_and(|settings| settings.news2_scale == 2) { Self::Two } else { Self::One }
    }
    pub const fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// The points of one value, which is rounded half up to the chart's resolution first (SEMANTICS 10). `flow` is the supplemental oxygen in
/// L/min, `None` if it is not known: then SpO2 from 93 % on scale 2 has no points, because they depend on it.
pub fn points(part: Part, value: f64, scale: Scale, flow: Option<f64>) -> Option<u8> {
    let whole = || part.metric().rounded(value) as i64;
    Some(match part {
        Part::RespiratoryRate => match whole() {
            ..=8 => 3,
            9..=11 => 1,
            12..=20 => 0,
            21..=24 => 2,
            25.. => 3,
        },
        Part::Spo2 => return saturation(whole(), scale, flow),
        Part::Oxygen => on_oxygen(value),
        Part::SystolicPressure => match whole() {
            ..=90 => 3,
            91..=100 => 2,
            101..=110 => 1,
            111..=219 => 0,
            220.. => 3,
        },
        Part::Pulse => match whole() {
            ..=40 => 3,
            41..=50 => 1,
            51..=90 => 0,
            91..=110 => 1,
            111..=130 => 2,
            131.. => 3,
        },
        Part::Consciousness => match Acvpu::from_value(value)? {
            Acvpu::Alert => 0,
            Acvpu::Confusion | Acvpu::Voice | Acvpu::Pain | Acvpu::Unresponsive => 3,
        },
        Part::Temperature => match (part.metric().rounded(value) * 10.0).round() as i64 {
            ..=350 => 3,
            351..=360 => 1,
            361..=380 => 0,
            381..=390 => 1,
            391.. => 2,
        },
    })
}

fn saturation(percent: i64, scale: Scale, flow: Option<f64>) -> Option<u8> {
    Some(match (scale, percent) {
        (Scale::One, ..=91) => 3,
        (Scale::One, 92..=93) => 2,
        (Scale::One, 94..=95) => 1,
        (Scale::One, 96..) => 0,
        (Scale::Two, ..=83) => 3,
        (Scale::Two, 84..=85) => 2,
        (Scale::Two, 86..=87) => 1,
        (Scale::Two, 88..=92) => 0,
        (Scale::Two, 93..) if flow? <= 0.0 => 0,
        (Scale::Two, 93..=94) => 1,
        (Scale::Two, 95..=96) => 2,
        (Scale::Two, 97..) => 3,
    })
}

/// Any flow is oxygen, however little: this is not rounded.
fn on_oxygen(flow: f64) -> u8 {
    if flow > 0.0 { 2 } else { 0 }
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Origin {
    /// Measured, or typed by a person, at that time.
    Reading { at: EventTime, typed: bool },
    /// What the patient's settings say of oxygen; it holds until they are changed, and has no age.
    Settings,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Known {
    pub value: f64,
    pub origin: Origin,
}

/// One line of the chart.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Line {
    pub part: Part,
    /// The newest value no older than was asked for.
    pub known: Option<Known>,
    /// `None` is missing. A value may be known and still have none: SpO2 on scale 2 while oxygen is not known.
    pub points: Option<u8>,
}

/// The clinical risk that the College puts beside a score (chart 2 of the report).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Risk {
    /// 0 to 4.
    Low,
    /// 3 in a single parameter, and less than 5 in all.
    LowMedium,
    /// 5 or 6.
    Medium,
    /// 7 and more.
    High,
}

/// The score of one patient at one time, as far as it is known.
#[derive(Clone, PartialEq, Debug)]
pub struct News2 {
    pub at: EventTime,
    /// How old a value may be and still count.
    pub age: Micros,
    pub scale: Scale,
    /// In the order of [`Part::ALL`].
    pub lines: [Line; 7],
}

impl News2 {
    /// Of the newest `values`, in the order of [`Part::ALL`], each measured in `(at − age, at]`. Without a reading, oxygen is what the settings say.
    pub fn of(at: EventTime, age: Micros, settings: Option<&Settings>, values: [Option<Known>; 7]) -> Self {
        let scale = Scale::of(settings);
        let oxygen = oxygen(values[Part::Oxygen as usize], settings);
        let flow = oxygen.map(|known| known.value);
        let lines = Part::ALL.map(|part| {
            let known = if part == Part::Oxygen { oxygen } else { values[part as usize] };
            Line { part, known, points: known.and_then(|known| points(part, known.value, scale, flow)) }
        });
        Self { at, age, scale, lines }
    }

    fn each(&self) -> [Option<u8>; 7] {
        self.lines.map(|line| line.points)
    }

    /// `None` while anything is missing.
    pub fn score(&self) -> Option<u8> {
        self.each().into_iter().sum()
    }
    /// The score is this or more: the points of what is known.
    pub fn least(&self) -> u8 {
        self.each().into_iter().flatten().sum()
    }
    /// The score is this or less: what is missing gave the most it can.
    pub fn most(&self) -> u8 {
        self.lines.iter().map(|line| line.points.unwrap_or(line.part.most())).sum()
    }
    pub fn missing(&self) -> impl Iterator<Item = Part> {
        self.lines.iter().filter(|line| line.points.is_none()).map(|line| line.part)
    }
    /// Parameters that have 3 points, each of which calls for somebody to look, whatever the sum.
    pub fn red(&self) -> impl Iterator<Item = Part> {
        self.lines.iter().filter(|line| line.points == Some(3)).map(|line| line.part)
    }
    /// At least this, while anything is missing.
    pub fn risk(&self) -> Risk {
        match self.least() {
            7.. => Risk::High,
            5..=6 => Risk::Medium,
            ..=4 if self.red().next().is_some() => Risk::LowMedium,
            ..=4 => Risk::Low,
        }
    }
    pub fn words(&self) -> String {
        words(&self.each())
    }
}

impl Engine {
    /// From the newest readings that rules look at. Readings are kept for `at` within the horizon of the newest.
    pub fn news2(&self, patient: &PatientId, at: EventTime, age: Micros) -> News2 {
        let folded = self.fold.patients.get(patient);
        let settings = folded.and_then(|folded| folded.settings.as_deref());
        News2::of(at, age, settings, Part::ALL.map(|part| newest(folded?, part, at, age)))
    }
}

fn newest(folded: &Folded, part: Part, at: EventTime, age: Micros) -> Option<Known> {
    let pauses = folded.settings.as_deref().map_or(&[][..], |settings| &settings.pauses);
    let kept = folded.series.get(&part.metric())?.newest(at, age, pauses)?;
    Some(Known { value: kept.value, origin: Origin::Reading { at: kept.at, typed: kept.typed } })
}

/// A reading counts before the settings do: it was looked at since.
fn oxygen(reading: Option<Known>, settings: Option<&Settings>) -> Option<Known> {
    let arranged = settings.and_then(|settings| settings.oxygen_l_min).map(|value| Known { value, origin: Origin::Settings });
    reading.or(arranged)
}

/// `NEWS2 7: RR 3, SpO₂ 2, pulse 2`, or while something is missing `NEWS2 at least 7: RR 3, SpO₂ 2, pulse 2; consciousness, temperature not known`.
pub fn words(points: &[Option<u8>; 7]) -> String {
    let score: u8 = points.iter().flatten().sum();
    let parts = || Part::ALL.into_iter().zip(points);
    let given: Vec<String> =
        parts().filter_map(|(part, points)| points.filter(|points| *points > 0).map(|points| format!("{} {points}", part.label()))).collect();
    let missing: Vec<&str> = parts().filter(|(_, points)| points.is_none()).map(|(part, _)| part.label()).collect();
    let mut text = format!("NEWS2 {}{score}", if missing.is_empty() { "" } else { "at least " });
    if !given.is_empty() {
        text += &format!(": {}", given.join(", "));
    }
    if !missing.is_empty() {
        text += &format!("; {} not known", missing.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(news2_scale: u8, oxygen_l_min: Option<f64>) -> Settings {
        Settings {
            patient: schemas::PatientId::parse("ada").unwrap(),
            version: 1,
            monitored: true,
            limits: std::collections::BTreeMap::new(),
            limits_until: std::collections::BTreeMap::new(),
            oxygen_l_min,
            news2_scale,
            pauses: Vec::new(),
            expected_interval: std::collections::BTreeMap::new(),
            enrolled_at: EventTime(0),
            author: String::new(),
        }
    }

    /// Both sides of every edge of a row: `(from, points)` for each step, `to` the end of what can be measured.
    fn row(part: Part, scale: Scale, flow: Option<f64>, step: f64, from: f64, steps: &[(f64, u8)], to: f64) {
        let mut edges = steps.iter().copied().peekable();
        let mut least = from;
        while let Some((first, expected)) = edges.next() {
            assert!(first >= least, "{part:?}: the table is in order");
            let last = edges.peek().map_or(to, |(next, _)| next - step);
            let check = |value: f64| {
                assert_eq!(points(part, value, scale, flow), Some(expected), "{part:?} {value} scale {scale:?} flow {flow:?}");
            };
            check(first);
            check(last);
            // SEMANTICS 10: half up to the chart's resolution
            if first > from {
                check(first - step / 2.0);
                assert_ne!(points(part, first - step / 2.0 - step / 1e3, scale, flow), Some(expected), "{part:?} below {first}");
            }
            let mut value = first;
            while value <= last {
                check(value);
                value += step;
            }
            least = first;
        }
    }

    #[test]
    fn every_boundary_of_the_chart() {
        use Scale::{One, Two};
        for (scale, flow) in [(One, None), (One, Some(0.0)), (One, Some(2.0)), (Two, None), (Two, Some(0.0)), (Two, Some(2.0))] {
            row(Part::RespiratoryRate, scale, flow, 1.0, 1.0, &[(1.0, 3), (9.0, 1), (12.0, 0), (21.0, 2), (25.0, 3)], 120.0);
            row(Part::SystolicPressure, scale, flow, 1.0, 30.0, &[(30.0, 3), (91.0, 2), (101.0, 1), (111.0, 0), (220.0, 3)], 320.0);
            row(Part::Pulse, scale, flow, 1.0, 10.0, &[(10.0, 3), (41.0, 1), (51.0, 0), (91.0, 1), (111.0, 2), (131.0, 3)], 350.0);
            row(Part::Temperature, scale, flow, 0.1, 20.0, &[(20.0, 3), (35.1, 1), (36.1, 0), (38.1, 1), (39.1, 2)], 46.0);
        }
        for flow in [None, Some(0.0), Some(2.0)] {
            row(Part::Spo2, One, flow, 1.0, 0.0, &[(0.0, 3), (92.0, 2), (94.0, 1), (96.0, 0)], 100.0);
        }
        row(Part::Spo2, Two, Some(0.0), 1.0, 0.0, &[(0.0, 3), (84.0, 2), (86.0, 1), (88.0, 0)], 100.0);
        row(Part::Spo2, Two, Some(2.0), 1.0, 0.0, &[(0.0, 3), (84.0, 2), (86.0, 1), (88.0, 0), (93.0, 1), (95.0, 2), (97.0, 3)], 100.0);
        row(Part::Spo2, Two, None, 1.0, 0.0, &[(0.0, 3), (84.0, 2), (86.0, 1), (88.0, 0)], 92.0);
        for percent in 93..=100 {
            assert_eq!(points(Part::Spo2, f64::from(percent), Two, None), None, "{percent}");
        }
        assert_eq!(points(Part::Spo2, 92.5, Two, None), None, "rounded before it is looked up");
        assert_eq!(points(Part::Spo2, 92.49, Two, None), Some(0));
        for (flow, expected) in [(0.0, 0), (0.01, 2), (0.5, 2), (15.0, 2)] {
            assert_eq!(points(Part::Oxygen, flow, One, None), Some(expected), "{flow}");
        }
        for (level, expected) in Acvpu::ALL.into_iter().zip([0, 3, 3, 3, 3]) {
            assert_eq!(points(Part::Consciousness, level.value(), One, None), Some(expected), "{level}");
        }
        assert_eq!(points(Part::Consciousness, 5.0, One, None), None);
    }

    /// The most that each part gives, and 20 in all.
    #[test]
    fn the_worst_of_everything_is_twenty() {
        let worst = |scale, values: [f64; 7]| {
            let given = Part::ALL.map(|part| points(part, values[part as usize], scale, Some(values[Part::Oxygen as usize])));
            assert_eq!(given, Part::ALL.map(|part| Some(part.most())));
            given.into_iter().flatten().sum::<u8>()
        };
        assert_eq!(worst(Scale::One, [25.0, 91.0, 2.0, 90.0, 131.0, 4.0, 35.0]), 20);
        assert_eq!(worst(Scale::Two, [8.0, 97.0, 2.0, 220.0, 40.0, 1.0, 34.9]), 20);
    }

    fn score(scale: u8, arranged: Option<f64>, values: [Option<f64>; 7]) -> News2 {
        let at = EventTime(1_000);
        let known = |value| Known { value, origin: Origin::Reading { at, typed: false } };
        News2::of(at, Micros::hours(4), Some(&settings(scale, arranged)), values.map(|value| value.map(known)))
    }

    fn check(scale: u8, arranged: Option<f64>, values: [Option<f64>; 7], expected: &str) -> News2 {
        let score = score(scale, arranged, values);
        assert_eq!(score.words(), expected);
        assert_eq!(score.score().is_some(), !expected.contains("not known"));
        score
    }

    #[test]
    fn what_is_missing_is_never_taken_for_normal() {
        let well = [Some(16.0), Some(97.0), Some(0.0), Some(128.0), Some(70.0), Some(0.0), Some(36.8)];
        assert_eq!(check(1, None, well, "NEWS2 0").risk(), Risk::Low);
        for part in Part::ALL {
            let mut values = well;
            values[part as usize] = None;
            let score = check(1, None, values, &format!("NEWS2 at least 0; {} not known", part.label()));
            assert_eq!((score.score(), score.least(), score.most()), (None, 0, part.most()), "{part:?}");
            assert_eq!(score.missing().collect::<Vec<_>>(), [part]);
        }
        let nothing = check(1, None, [None; 7], "NEWS2 at least 0; RR, SpO₂, oxygen, systolic BP, pulse, consciousness, temperature not known");
        assert_eq!((nothing.score(), nothing.least(), nothing.most()), (None, 0, 20));

        let ill = [Some(26.0), Some(93.0), None, None, Some(115.0), None, Some(36.8)];
        let score = check(1, None, ill, "NEWS2 at least 7: RR 3, SpO₂ 2, pulse 2; oxygen, systolic BP, consciousness not known");
        assert_eq!((score.least(), score.most(), score.risk()), (7, 15, Risk::High));
        assert_eq!(score.red().collect::<Vec<_>>(), [Part::RespiratoryRate]);
        assert_eq!(
            check(1, Some(0.0), [Some(25.0), Some(96.0), None, Some(111.0), Some(51.0), Some(0.0), Some(36.1)], "NEWS2 3: RR 3").risk(),
            Risk::LowMedium
        );
        assert_eq!(
            check(1, Some(2.0), [Some(25.0), Some(96.0), None, Some(111.0), Some(51.0), Some(0.0), Some(36.1)], "NEWS2 5: RR 3, oxygen 2").risk(),
            Risk::Medium
        );
    }

    #[test]
    fn scale_two_asks_for_oxygen() {
        let with = |spo2, oxygen| [Some(16.0), Some(spo2), oxygen, Some(128.0), Some(70.0), Some(0.0), Some(36.8)];
        check(2, None, with(95.0, None), "NEWS2 at least 0; SpO₂, oxygen not known");
        check(2, None, with(90.0, None), "NEWS2 at least 0; oxygen not known");
        check(2, None, with(95.0, Some(0.0)), "NEWS2 0");
        check(2, None, with(95.0, Some(1.0)), "NEWS2 4: SpO₂ 2, oxygen 2");
        check(1, None, with(95.0, Some(1.0)), "NEWS2 3: SpO₂ 1, oxygen 2");
        // settings stand in for a reading, and a reading counts before them
        check(2, Some(1.0), with(95.0, None), "NEWS2 4: SpO₂ 2, oxygen 2");
        let score = check(2, Some(1.0), with(95.0, Some(0.0)), "NEWS2 0");
        assert_eq!(score.lines[2].known.map(|known| known.origin), Some(Origin::Reading { at: EventTime(1_000), typed: false }));
        assert_eq!(super::oxygen(None, Some(&settings(2, Some(1.0)))).map(|known| known.origin), Some(Origin::Settings));
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        fn value(part: Part) -> BoxedStrategy<f64> {
            let (low, high) = part.metric().plausible();
            match part {
                Part::Consciousness => (0..5_u8).prop_map(f64::from).boxed(),
                // half of the time on air
                Part::Oxygen => prop_oneof![Just(0.0), 0.0..high].boxed(),
                _ => prop_oneof![low..=high, (low as i64..=high as i64).prop_map(|whole| whole as f64 - 0.5)].boxed(),
            }
        }

        fn values() -> impl Strategy<Value = [Option<f64>; 7]> {
            let each = Part::ALL.map(|part| proptest::option::weighted(0.7, value(part)));
            each.prop_map(|values| values)
        }

        proptest! {
            #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000), ..ProptestConfig::default() })]

            /// Away from the middle of a row no value has fewer points than one nearer to it.
            #[test]
            fn points_grow_away_from_the_normal(part in 0..7_usize, a in 0.0..1.0, b in 0.0..1.0, two in any::<bool>(), flow in prop_oneof![Just(0.0), Just(2.0)]) {
                let part = Part::ALL[part];
                prop_assume!(!matches!(part, Part::Consciousness | Part::Oxygen));
                let scale = if two { Scale::Two } else { Scale::One };
                let (low, high) = part.metric().plausible();
                let normal = match part {
                    Part::RespiratoryRate => 16.0,
                    Part::Spo2 if two => 90.0,
                    Part::Spo2 => 100.0,
                    Part::SystolicPressure => 120.0,
                    Part::Pulse => 70.0,
                    _ => 37.0,
                };
                let of = |value| points(part, value, scale, Some(flow)).unwrap();
                let (near, far) = (f64::min(a, b), f64::max(a, b));
                prop_assert!(of(normal - (normal - low) * near) <= of(normal - (normal - low) * far));
                prop_assert!(of(normal + (high - normal) * near) <= of(normal + (high - normal) * far));
                prop_assert_eq!(of(normal), 0);
            }

            /// Whatever the missing values turn out to be, the score lies within the bounds that were said before they came.
            #[test]
            fn what_comes_to_be_known_lies_within_the_bounds(known in values(), rest in values(), scale in 1..=2_u8, arranged in proptest::option::of(prop_oneof![Just(0.0), Just(2.0)])) {
                let before = score(scale, arranged, known);
                let mut more = known;
                for part in Part::ALL {
                    // a reading of oxygen may say otherwise than the settings: that is news, not a gap that was filled
                    let filled = if part == Part::Oxygen && arranged.is_some() { None } else { rest[part as usize] };
                    more[part as usize] = known[part as usize].or(filled);
                }
                let after = score(scale, arranged, more);
                prop_assert!(before.least() <= after.least() && after.most() <= before.most(), "{before:?} {after:?}");
                prop_assert!(after.least() <= after.most() && after.most() <= 20);
                prop_assert_eq!(after.score(), (after.missing().count() == 0).then_some(after.least()));
                if let Some(score) = after.score() {
                    prop_assert_eq!((after.least(), after.most()), (score, score));
                }
                prop_assert!(before.risk() <= after.risk());
            }
        }
    }
}
