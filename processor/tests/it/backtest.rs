//! The back-test over lakes that the archive wrote, beside what the processor said live.

use std::collections::BTreeSet;

use engine::Verdict;
use journal::Topic;
use processor::backtest::{
    self, Alert, Asked, BacktestError, ExplainError, Labelled, Outcome, Past, Plan, Progress, Question, Rules, WarmUp, compare, explain, report, run,
};
use processor::lake::{self, LakeError};
use schemas::{
    Arrived, CANARY_RULE, ClockState, DeviceId, EventTime, Input, Metric, Micros, Partition, PatientId, Pause, Reading, ReadingId, RuleSet, Settings,
    Transition, TransitionKind, Void,
};

use crate::archive::archived;
use crate::{Random, Ward, golden, start, until};

const RULES: &str = r#"
[[rule]]
id = "spo2-low"
priority = "high"
when = "mean(spo2, '5 min') < limit('spo2.low', 90)"
clear = "mean(spo2, '5 min') >= limit('spo2.low', 90) + 2"
needs = 2
hold = "1 min"

[[rule]]
id = "pulse-high"
priority = "medium"
late = "page"
when = "last(heart_rate, '10 min') > 120 AND last(spo2, '30 min') < 95"
clear = "last(heart_rate, '10 min') <= 110"

[[rule]]
id = "silent"
priority = "low"
metric = "spo2"
silent = "20 min"
"#;

fn rule_set(version: u64, toml: &str, at: EventTime) -> Input {
    Input::RuleSet(RuleSet { version, toml: toml.to_owned(), activated_at: at, author: String::new() })
}

/// Hours of a ward as they come in: late, repeated, corrected, voided, paused, with other limits and other rules on the way.
struct Story {
    random: Random,
    clock: EventTime,
    sent: Vec<Reading>,
    version: u64,
}

impl Story {
    fn new() -> Self {
        Self { random: Random::new(), clock: start(), sent: Vec::new(), version: 1 }
    }

    fn below(&mut self, limit: u64) -> i64 {
        self.random.below(limit) as i64
    }

    fn next(&mut self, patients: &[PatientId]) -> Input {
        self.clock = self.clock + Micros::seconds(self.below(40));
        let patient = patients[self.below(patients.len() as u64) as usize].clone();
        match self.below(100) {
            0 => Input::Tick,
            1 => {
                self.version += 1;
                let limits = [("spo2.low".to_owned(), 86.0 + self.below(8) as f64)].into();
                let pauses = match self.below(3) {
                    0 => vec![Pause { from: self.clock + Micros::minutes(1), until: Some(self.clock + Micros::minutes(9)), reason: String::new() }],
                    _ => Vec::new(),
                };
                settings(&patient, self.version, limits, pauses)
            }
            2..6 if self.sent.iter().any(|reading| patients.contains(&reading.patient)) => {
                let reading = self.sent_of(patients);
                let void = Void {
                    reading: reading.id,
                    patient: reading.patient,
                    metric: reading.metric,
                    at: reading.at,
                    reason: String::new(),
                    author: String::new(),
                    moved_to: None,
                };
                Input::Void(void)
            }
            6..10 if self.sent.iter().any(|reading| patients.contains(&reading.patient)) => {
                let mut reading = self.sent_of(patients);
                if self.below(2) == 0 {
                    reading.value -= 6.0;
                }
                Input::Reading(reading)
            }
            _ => {
                let reading = self.reading(patient);
                self.sent.push(reading.clone());
                Input::Reading(reading)
            }
        }
    }

    fn sent_of(&mut self, patients: &[PatientId]) -> Reading {
        let theirs: Vec<Reading> = self.sent.iter().filter(|reading| patients.contains(&reading.patient)).cloned().collect();
        theirs[self.below(theirs.len() as u64) as usize].clone()
    }

    fn reading(&mut self, patient: PatientId) -> Reading {
        let metric = if self.below(3) == 0 { Metric::HeartRate } else { Metric::Spo2 };
        let late = match self.below(20) {
            0 => self.below(3 * 3600),
            1..4 => self.below(600),
            _ => 0,
        };
        let at = self.clock - Micros::seconds(late);
        let device = DeviceId::parse(&format!("dev-{patient}-{}", self.below(2))).unwrap();
        let value = if metric == Metric::Spo2 { 84.0 + self.below(14) as f64 } else { 100.0 + self.below(40) as f64 };
        Reading {
            id: ReadingId::new(&device, metric, at, Some(1)),
            patient,
            device,
            metric,
            value,
            at,
            stamped_at: at,
            received_at: self.clock,
            clock: if self.below(9) == 0 { ClockState::Corrected } else { ClockState::AsSent },
            boot: Some(1),
            seq: Some(7),
            typed: self.below(9) == 0,
            test: self.below(12) == 0,
            value_as_sent: value,
            unit_as_sent: "%".to_owned(),
            author: "a".to_owned(),
            format: None,
        }
    }
}

fn settings(patient: &PatientId, version: u64, limits: std::collections::BTreeMap<String, f64>, pauses: Vec<Pause>) -> Input {
    Input::Settings(Settings {
        patient: patient.clone(),
        version,
        monitored: true,
        limits,
        limits_until: [].into(),
        oxygen_l_min: None,
        news2_scale: 1,
        pauses,
        expected_interval: [].into(),
        enrolled_at: start(),
        author: String::new(),
    })
}

fn patients(partition: u32) -> Vec<PatientId> {
    (0..3).map(|n| PatientId::parse(&format!("p{partition}-{n}")).unwrap()).collect()
}

/// A ward of two partitions that lived through a story, was evaluated by the processor, and is in the lake.
async fn lived(steps: usize) -> Ward {
    let ward = Ward::with(2);
    let mut story = Story::new();
    for partition in [0, 1] {
        ward.append_to(Partition(partition), [rule_set(1, RULES, start())]).await;
        for patient in patients(partition) {
            ward.append_to(Partition(partition), [settings(&patient, 1, [].into(), Vec::new())]).await;
        }
    }
    for step in 0..steps {
        let partition = story.below(2) as u32;
        let input = story.next(&patients(partition));
        ward.journal.set_clock(Arrived(story.clock.0));
        ward.append_to(Partition(partition), [input]).await;
        if step == steps / 2 {
            let stricter = RULES.replace("'spo2.low', 90", "'spo2.low', 91");
            for partition in [0, 1] {
                ward.append_to(Partition(partition), [rule_set(2, &stricter, story.clock)]).await;
            }
        }
    }
    let running = ward.start(1000);
    for partition in [0, 1].map(Partition) {
        let all = golden(partition, &ward.journal.records(Topic::Inputs, partition)).len();
        until("every output", || running.1.is_finished() || ward.seen_of(partition).len() >= all).await;
    }
    running.0.cancel();
    running.1.await.unwrap().unwrap();
    archived(&ward).await;
    ward
}

fn tried(ward: &Ward, plan: &Plan, rules: &[Rules]) -> Outcome {
    run(&ward.objects, plan, rules, &Progress::default()).unwrap()
}

fn whole() -> Plan {
    Plan::new(engine::Config::default())
}

fn raised(of: impl Iterator<Item = Transition>) -> BTreeSet<String> {
    let told = of.filter(|t| t.kind == TransitionKind::Raised && t.rule.as_str() != CANARY_RULE);
    told.map(|t| format!("{} {} {} {} {}", t.alert, t.patient, t.rule, t.at, t.heard_at)).collect()
}

fn alerts<'a>(of: impl IntoIterator<Item = &'a Alert>) -> BTreeSet<String> {
    of.into_iter().map(|a| format!("{} {} {} {} {}", a.alert, a.patient, a.rule, a.raised_at, a.heard_at)).collect()
}

fn both(ward: &Ward) -> impl Iterator<Item = Transition> {
    [0, 1].map(Partition).into_iter().flat_map(|partition| ward.transitions(partition))
}

/// Live = history: the same alerts, by id and time, and the same counts, with settings and rules that changed on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_of_the_log_tell_what_was_told_live() {
    let ward = lived(1500).await;
    let outcome = tried(&ward, &whole(), &[Rules::OfTheLog]);
    let live = raised(both(&ward));
    assert!(live.len() > 20, "{} alerts: the story is too quiet to show anything", live.len());
    assert_eq!(alerts(&outcome.trials[0].alerts), live);
    let mut stats = [engine::Stats::default(), engine::Stats::default()];
    let mut in_event_order = BTreeSet::new();
    for (partition, stats) in [0, 1].map(Partition).into_iter().zip(&mut stats) {
        let config = || engine::Config { partition, ..engine::Config::default() };
        let mut engine = engine::Engine::new(config());
        let mut log = crate::arrivals(&ward.journal.records(Topic::Inputs, partition));
        engine.apply(&log);
        *stats = engine.stats();
        // the mutant that this test must see: readings in the order in which they were measured
        log.sort_by_key(|arrival| if let Input::Reading(reading) = &arrival.input { reading.at.0 } else { arrival.arrived_at.0 });
        for (n, arrival) in log.iter_mut().enumerate() {
            arrival.offset = schemas::Offset(n as i64);
        }
        let told = engine::Engine::new(config()).apply(&log);
        in_event_order.extend(raised(told.into_iter().filter_map(|o| if let engine::Output::Transition(t) = o { Some(t) } else { None })));
    }
    let sum = outcome.trials[0].stats;
    assert_eq!(sum.readings, stats[0].readings + stats[1].readings);
    assert_eq!(sum.late, stats[0].late + stats[1].late);
    assert_eq!(sum.beyond_horizon, stats[0].beyond_horizon + stats[1].beyond_horizon);
    assert_eq!(sum.voided, stats[0].voided + stats[1].voided);
    assert_eq!(sum.duplicates, stats[0].duplicates + stats[1].duplicates);
    assert!(sum.late > 50 && sum.beyond_horizon > 5 && sum.voided > 5 && sum.duplicates > 5, "{sum:?}");
    assert_ne!(in_event_order, live, "in event order it would be another answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_under_trial_stand_from_the_first_input_on() {
    let ward = lived(900).await;
    // lower than any value: only personal limits are met
    let looser = RULES.replace("'spo2.low', 90", "'spo2.low', 80");
    let outcome = tried(&ward, &whole(), &[Rules::Trial(looser.clone()), Rules::Trial(RULES.to_owned()), Rules::OfTheLog]);
    // the same log with other rule sets in it
    let mut expected = BTreeSet::new();
    for partition in [0, 1].map(Partition) {
        let mut log = crate::arrivals(&ward.journal.records(Topic::Inputs, partition));
        for arrival in &mut log {
            if let Input::RuleSet(set) = &mut arrival.input {
                set.toml.clone_from(&looser);
                // the second says nothing new
                set.version = 1;
            }
        }
        let told = engine::Engine::new(engine::Config { partition, ..engine::Config::default() }).apply(&log);
        expected.extend(raised(told.into_iter().filter_map(|o| if let engine::Output::Transition(t) = o { Some(t) } else { None })));
    }
    assert_eq!(alerts(&outcome.trials[0].alerts), expected);
    let count = |trial: usize| outcome.trials[trial].alerts.iter().filter(|alert| alert.rule.as_str() == "spo2-low").count();
    assert!(count(0) < count(1), "a lower limit is met less often: {} {}", count(0), count(1));
    let differences = compare(&whole(), &outcome.trials[0], &outcome.trials[1]);
    assert!(differences.only_there.iter().all(|alert| alert.rule.as_str() == "spo2-low"), "only the rule that changed differs");
    assert!(!differences.only_there.is_empty());
    let same = compare(&whole(), &outcome.trials[1], &outcome.trials[1]);
    assert!(same.only_here.is_empty() && same.only_there.is_empty() && same.both as usize == outcome.trials[1].alerts.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_period_and_a_cohort_are_parts_of_the_whole() {
    let ward = lived(1500).await;
    let rules = [Rules::OfTheLog];
    let all = tried(&ward, &whole(), &rules);
    let middle = Arrived((all.data.first_arrived.0 + all.data.last_arrived.0) / 2);
    let late = middle + Micros::minutes(90);
    let exact = Plan { from: middle, to: late, ..whole() };
    let expected = alerts(all.trials[0].alerts.iter().filter(|alert| alert.known_at >= middle && alert.known_at < late));
    let of_period = tried(&ward, &exact, &rules);
    let counted = |outcome: &Outcome| alerts(outcome.trials[0].alerts.iter().filter(|alert| alert.known_at >= middle && alert.known_at < late));
    assert!(expected.len() > 3, "{expected:?}");
    assert_eq!(counted(&of_period), expected);
    assert!(of_period.data.readings > 0 && of_period.data.readings < all.data.readings);
    assert!(of_period.data.last_arrived < late);

    // settings that came before the warm-up are in effect
    let short = Plan { warm_up: WarmUp::Span(Micros::hours(3)), ..exact.clone() };
    let warm = tried(&ward, &short, &rules);
    let missing: Vec<_> = expected.difference(&counted(&warm)).cloned().collect();
    assert!(missing.len() * 5 <= expected.len(), "a short warm-up tells nearly the same: {missing:?}");
    let unsettled = Plan { warm_up: WarmUp::Span(Micros::ZERO), ..exact };
    assert_eq!(tried(&ward, &unsettled, &rules).data.readings, of_period.data.readings);

    let mine = patients(1)[1].clone();
    let cohort = tried(&ward, &Plan { patients: Some([mine.clone()].into()), ..whole() }, &rules);
    assert_eq!(alerts(&cohort.trials[0].alerts), alerts(all.trials[0].alerts.iter().filter(|alert| alert.patient == mine)));
    assert_eq!(cohort.data.watched.keys().collect::<Vec<_>>(), [&mine]);
    assert_eq!(cohort.data.watched[&mine], all.data.watched[&mine]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_question_has_the_same_answer_to_the_byte() {
    let ward = lived(600).await;
    let rules = [Rules::Trial(RULES.to_owned()), Rules::OfTheLog];
    let labels = patients(0).into_iter().map(|patient| Labelled { patient, time: start() + Micros::hours(2) }).collect();
    let question = Question { labels: Some(labels), ..Question::default() };
    let asked = |workers| {
        let plan = Plan { workers: std::num::NonZero::new(workers), ..whole() };
        let report = report(&plan, &question, &rules, &tried(&ward, &plan, &rules)).unwrap();
        (report.id(), serde_json::to_string(&report).unwrap())
    };
    let (id, text) = asked(1);
    assert_eq!((id.clone(), text.clone()), asked(2));
    assert!(text.contains(engine::VERSION) && text.contains(&backtest::hash(RULES)));
    // one record more is another lake
    ward.append([Input::Tick]).await;
    archived(&ward).await;
    let (other, _) = asked(2);
    assert_ne!(id, other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_a_damaged_and_an_empty_lake_are_named() {
    let empty = Ward::new();
    assert!(matches!(run(&empty.objects, &whole(), &[Rules::OfTheLog], &Progress::default()), Err(BacktestError::Empty)));

    let ward = lived(200).await;
    let failed = |ward: &Ward| run(&ward.objects, &whole(), &[Rules::OfTheLog], &Progress::default()).unwrap_err();
    let stopped = Progress::default();
    stopped.cancel();
    assert!(matches!(run(&ward.objects, &whole(), &[Rules::OfTheLog], &stopped), Err(BacktestError::Cancelled)));
    assert!(matches!(run(&ward.objects, &whole(), &[Rules::Trial("[[rule]]".to_owned())], &Progress::default()), Err(BacktestError::Rules(_))));
    let before = Plan { to: Arrived(start().0 - 1), ..whole() };
    assert!(matches!(run(&ward.objects, &before, &[Rules::OfTheLog], &Progress::default()), Err(BacktestError::Before { .. })));

    let files = lake::files(&*ward.objects, Topic::Inputs, Partition(1)).unwrap();
    let gone = files[files.len() / 2].clone();
    let bytes = ward.objects.read(&gone.name).unwrap();
    ward.objects.remove(&gone.name).unwrap();
    let error = failed(&ward);
    assert!(matches!(&error, BacktestError::Lake(LakeError::Gap { from, .. }) if *from == gone.first), "{error}");
    ward.objects.create(&gone.name, &bytes[..bytes.len() / 2]).unwrap();
    assert!(failed(&ward).to_string().contains(&gone.name));
    ward.objects.remove(&gone.name).unwrap();
    ward.objects.create(&gone.name, &bytes).unwrap();
    tried(&ward, &whole(), &[Rules::OfTheLog]);
}

async fn explained(ward: &Ward, with_journal: bool, patient: &PatientId, rule: &schemas::RuleId, at: Arrived) -> Result<Past, ExplainError> {
    let journal = with_journal.then(|| ward.journal.clone() as std::sync::Arc<dyn journal::Journal>);
    let asked = Asked { patient: patient.clone(), rule: rule.clone(), at };
    // the story's patients live where they were put, not where their key falls
    let partition = Partition(u32::from(patient.as_str().starts_with("p1")));
    let partitions = (1..64).find(|n| schemas::partition_of(patient.as_bytes(), *n) == partition).unwrap();
    explain(ward.objects.clone(), journal, engine::Config::default(), partitions, asked, WarmUp::All).await
}

/// What is explained is what was told: open from the moment that it was raised, and not before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_explanation_agrees_with_what_was_told() {
    let ward = lived(700).await;
    let told: Vec<Transition> = both(&ward).collect();
    let mut asked = 0;
    for raised in told.iter().filter(|t| t.kind == TransitionKind::Raised) {
        let over = told.iter().any(|t| t.alert == raised.alert && t.kind != TransitionKind::Raised && t.heard_at <= raised.heard_at + Micros(1));
        if over {
            continue;
        }
        asked += 1;
        let then = explained(&ward, true, &raised.patient, &raised.rule, raised.heard_at + Micros(1)).await.unwrap();
        assert!(matches!(&then.explanation.verdict, Verdict::Raised { alert, .. } if *alert == raised.alert), "{raised:?} {:?}", then.explanation);
        assert_eq!(then.told.last().map(|t| (t.what, t.at)), Some((TransitionKind::Raised, raised.at)));
        let before = explained(&ward, true, &raised.patient, &raised.rule, raised.heard_at - Micros(1)).await.unwrap();
        assert!(!matches!(&before.explanation.verdict, Verdict::Raised { alert, .. } if *alert == raised.alert), "{raised:?}");
        if let Verdict::NotSo = before.explanation.verdict {
            assert_eq!(before.explanation.when.as_ref().unwrap().says, Some(false));
        }
        // what each column says is what the alert rests on
        if then.explanation.row_at == Some(raised.at) {
            let columns: Vec<_> = then.explanation.columns.iter().map(|column| (column.text.as_str(), column.value)).collect();
            let evidence: Vec<_> = raised.evidence.iter().map(|evidence| (evidence.text.as_str(), evidence.value)).collect();
            assert_eq!(columns, evidence);
        }
    }
    assert!(asked > 10, "{asked} alerts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_in_the_lake_yet_comes_from_the_journal() {
    let ward = lived(300).await;
    let (patient, rule) = (patients(0)[0].clone(), schemas::RuleId::parse("spo2-low").unwrap());
    let mut story = Story::new();
    story.clock = start() + Micros::days(1);
    let low = |story: &mut Story, minutes: i64, late: i64| {
        let mut reading = story.reading(patient.clone());
        reading.metric = Metric::Spo2;
        reading.value = 70.0;
        reading.test = false;
        reading.at = story.clock + Micros::minutes(minutes - late);
        reading.id = ReadingId::new(&reading.device, Metric::Spo2, reading.at, None);
        Input::Reading(reading)
    };
    for (minutes, late) in [(0, 0), (1, 0), (2, 0), (3, 2), (9, 8)] {
        ward.journal.set_clock(Arrived(story.clock.0) + Micros::minutes(minutes) + Micros::seconds(i64::from(late > 0)));
        ward.append([low(&mut story, minutes, late)]).await;
    }
    let at = Arrived(story.clock.0) + Micros::minutes(2) + Micros::seconds(30);
    let past = explained(&ward, true, &patient, &rule, at).await.unwrap();
    assert!(matches!(past.explanation.verdict, Verdict::Raised { .. }), "{}", past.explanation);
    assert_eq!(past.explanation.columns[0].samples.len(), 3);
    assert_eq!(past.later.iter().map(|later| (later.at - story.clock).as_seconds() / 60).collect::<Vec<_>>(), [1, 1], "what came later was not known");
    assert!(past.explanation.to_string().contains("An alert is open"), "{}", past.explanation);
    let lake_only = explained(&ward, false, &patient, &rule, at).await.unwrap();
    assert!(lake_only.read_to < Some(Arrived(story.clock.0)));
    archived(&ward).await;
    let archived = explained(&ward, false, &patient, &rule, at).await.unwrap();
    assert_eq!((archived.explanation, archived.told, archived.later), (past.explanation, past.told, past.later));

    let nobody = schemas::RuleId::parse("nobody").unwrap();
    let error = explained(&ward, true, &patient, &nobody, at).await.unwrap_err().to_string();
    assert!(error.contains("no rule `nobody` in force") && error.contains("pulse-high, silent, spo2-low"), "{error}");
    assert!(matches!(explained(&ward, true, &patient, &rule, Arrived(start().0 - 1)).await, Err(ExplainError::NoRule { .. } | ExplainError::Nothing { .. })));
}
