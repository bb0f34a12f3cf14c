//! Which alerts there are, held against another implementation: slow, plain, and written from SEMANTICS alone. It keeps every reading, and asks
//! each rule anew at every row. Of what comes in order it knows every alert, with its times; of what is late, sent again, corrected, voided and
//! moved, which alerts are open.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use engine::{Config, Engine, Output};
use proptest::prelude::*;
use schemas::{Input, Metric, PatientId, Reading, ReadingId, Settings, TransitionKind, Void};

use super::generator::{Act, EVERYTHING, HOUR, History, MINUTE, Mix, histories};
use super::run;

const MIX: Mix = Mix { late_s: 15, moves: 0, skewed: 0, backlogs: 0, pauses: 0, rules: 0, limits: 2, ..EVERYTHING };
const METRICS: [Metric; 3] = [Metric::Spo2, Metric::HeartRate, Metric::RespiratoryRate];
const WORDS: [&str; 5] = ["last", "mean", "lowest", "highest", "spread"];
const WIDTHS: [i64; 5] = [1, 5, 10, 30, 120];

/// `word(metric, width) < bound`, or above it.
#[derive(Clone, Debug)]
struct Part {
    word: usize,
    metric: usize,
    width: usize,
    below: bool,
    bound: u8,
    /// The bound is the patient's own limit, where there is one.
    personal: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    parts: Vec<Part>,
    any: bool,
    needs: u8,
    hold_min: i64,
    /// Whether it clears by a word of its own: the first part, so far on the other side.
    clear_by: Option<u8>,
}

fn part() -> impl Strategy<Value = Part> {
    (0..WORDS.len(), 0..METRICS.len(), 0..WIDTHS.len(), any::<bool>(), 0_u8..22, prop::bool::weighted(0.4))
        .prop_map(|(word, metric, width, below, bound, personal)| Part { word, metric, width, below, bound, personal: personal && metric == 0 && word != 4 })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let hold = prop::sample::select(vec![0_i64, 0, 1, 2, 5, 30]);
    let clear = prop::option::weighted(0.4, 0_u8..4);
    let rule = (prop::collection::vec(part(), 1..3), any::<bool>(), 1_u8..4, hold, clear).prop_map(|(parts, any, needs, hold_min, clear_by)| Rule {
        parts,
        any,
        needs,
        hold_min,
        clear_by,
    });
    prop::collection::vec(rule, 1..4)
}

impl Part {
    /// Where values of the metric lie; of a spread, what it may be.
    fn bound(&self) -> f64 {
        let half = f64::from(self.bound) / 2.0;
        match (self.word, self.metric) {
            (4, _) => 1.0 + half,
            (_, 0) => 80.0 + 2.0 * half,
            (_, 1) => 104.0 + half,
            _ => 14.0 + half,
        }
    }

    fn call(&self) -> String {
        format!("{}({}, '{} min')", WORDS[self.word], METRICS[self.metric].name(), WIDTHS[self.width])
    }

    fn limit(&self) -> String {
        if self.personal { format!("limit('spo2.low', {})", self.bound()) } else { self.bound().to_string() }
    }
}

impl Rule {
    fn uses(&self, metric: Metric) -> bool {
        self.parts.iter().any(|part| METRICS[part.metric] == metric)
    }

    fn toml(&self, number: usize) -> String {
        let parts: Vec<String> = self.parts.iter().map(|part| format!("{} {} {}", part.call(), if part.below { "<" } else { ">" }, part.limit())).collect();
        let mut text = format!("[[rule]]\nid = \"r{number}\"\npriority = \"high\"\nneeds = {}\nhold = \"{} min\"\n", self.needs, self.hold_min);
        if self.hold_min == 0 {
            text = text.replace("hold = \"0 min\"\n", "");
        }
        writeln!(text, "when = \"{}\"", parts.join(if self.any { " OR " } else { " AND " })).unwrap();
        if let Some(by) = self.clear_by {
            let first = &self.parts[0];
            let (sign, side) = if first.below { (">=", "+") } else { ("<=", "-") };
            writeln!(text, "clear = \"{} {sign} {} {side} {by}\"", first.call(), first.limit()).unwrap();
        }
        text
    }
}

struct Kept {
    id: ReadingId,
    metric: Metric,
    at: i64,
    value: f64,
    /// Of a device under test: it makes rows, and is seen by no function.
    test: bool,
    voided: bool,
    beyond: bool,
}

/// Everything that is known of one patient.
#[derive(Default)]
struct Person {
    /// In the order in which they came.
    readings: Vec<Kept>,
    voids: BTreeSet<ReadingId>,
    settings: Option<Settings>,
}

impl Person {
    /// Whether it is a new one that counts: one sent again is not measured again, another value stands in the place of the first.
    fn hear(&mut self, reading: &Reading) -> bool {
        if let Some(known) = self.readings.iter_mut().find(|known| known.id == reading.id) {
            if !known.voided {
                known.value = reading.value;
            }
            return false;
        }
        let beyond = self.frontier(|metric| metric == reading.metric).is_some_and(|frontier| frontier - reading.at.0 > 2 * HOUR);
        let voided = self.voids.contains(&reading.id);
        self.readings.push(Kept { id: reading.id, metric: reading.metric, at: reading.at.0, value: reading.value, test: reading.test, voided, beyond });
        !beyond
    }

    fn void(&mut self, void: &Void) {
        let back = void.moved_to.as_ref() == Some(&void.patient);
        if back {
            self.voids.remove(&void.reading);
        } else {
            self.voids.insert(void.reading);
        }
        self.readings.iter_mut().filter(|known| known.id == void.reading).for_each(|known| known.voided = !back);
    }

    fn frontier(&self, of: impl Fn(Metric) -> bool) -> Option<i64> {
        self.readings.iter().filter(|known| of(known.metric)).map(|known| known.at).max()
    }

    fn value(&self, part: &Part, needs: u8, t: i64) -> Option<f64> {
        let from = t - WIDTHS[part.width] * MINUTE;
        let counts = |known: &&Kept| known.metric == METRICS[part.metric] && from < known.at && known.at <= t && !known.test && !known.voided && !known.beyond;
        let seen: Vec<(i64, f64)> = self.readings.iter().filter(counts).map(|known| (known.at, known.value)).collect();
        if seen.is_empty() || seen.len() < usize::from(needs) {
            return None;
        }
        let values = seen.iter().map(|(_, value)| *value);
        let (lowest, highest) = (values.clone().fold(f64::MAX, f64::min), values.clone().fold(f64::MIN, f64::max));
        Some(match WORDS[part.word] {
            // of one time the later arrival
            "last" => seen.iter().max_by_key(|(at, _)| *at).map(|(_, value)| *value)?,
            "mean" => values.sum::<f64>() / seen.len() as f64,
            "lowest" => lowest,
            "highest" => highest,
            _ => highest - lowest,
        })
    }

    fn limit(&self, part: &Part, t: i64) -> f64 {
        let own = self.settings.as_ref().filter(|_| part.personal).and_then(|settings| {
            let until = settings.limits_until.get("spo2.low");
            settings.limits.get("spo2.low").filter(|_| until.is_none_or(|until| t < until.0))
        });
        own.copied().unwrap_or(part.bound())
    }

    fn holds(&self, part: &Part, needs: u8, t: i64) -> Option<bool> {
        let (value, limit) = (self.value(part, needs, t)?, self.limit(part, t));
        Some(if part.below { value < limit } else { value > limit })
    }

    /// In the logic of SQL: what is not known may still not matter.
    fn when(&self, rule: &Rule, t: i64) -> Option<bool> {
        let all: Vec<Option<bool>> = rule.parts.iter().map(|part| self.holds(part, rule.needs, t)).collect();
        if all.contains(&Some(rule.any)) {
            Some(rule.any)
        } else if all.contains(&None) {
            None
        } else {
            Some(!rule.any)
        }
    }

    fn clear(&self, rule: &Rule, t: i64) -> Option<bool> {
        let Some(by) = rule.clear_by else { return self.when(rule, t).map(|when| !when) };
        let first = &rule.parts[0];
        let (value, limit, by) = (self.value(first, rule.needs, t)?, self.limit(first, t), f64::from(by));
        Some(if first.below { value >= limit + by } else { value <= limit - by })
    }
}

/// What one rule has told of one patient.
#[derive(Default)]
struct Told {
    open: bool,
    /// TRUE since, and when the first of it was heard.
    true_since: Option<(i64, i64)>,
}

/// Rule, patient, what, the row or the due, and since when.
type Said = (usize, PatientId, bool, i64, i64);

#[derive(Default)]
struct Plain {
    people: BTreeMap<PatientId, Person>,
    told: BTreeMap<(usize, PatientId), Told>,
    since: BTreeMap<(usize, PatientId), i64>,
    said: Vec<Said>,
}

impl Plain {
    /// SEMANTICS 11: it has been heard for so long, and nothing to the contrary.
    fn timers(&mut self, rules: &[Rule], clock: i64) {
        for ((number, patient), told) in &mut self.told {
            let hold = rules[*number].hold_min * MINUTE;
            let Some((since, heard)) = told.true_since.filter(|(_, heard)| !told.open && hold > 0 && heard + hold < clock) else { continue };
            (told.open, told.true_since) = (true, None);
            self.since.insert((*number, patient.clone()), since);
            self.said.push((*number, patient.clone(), true, heard + hold, since));
        }
    }

    fn row(&mut self, rules: &[Rule], number: usize, patient: &PatientId, t: i64, clock: i64) {
        let (person, rule) = (&self.people[patient], &rules[number]);
        let (when, clear) = (person.when(rule, t), person.clear(rule, t));
        let told = self.told.entry((number, patient.clone())).or_default();
        if told.open {
            if when != Some(true) && clear == Some(true) {
                told.open = false;
                let since = self.since[&(number, patient.clone())];
                self.said.push((number, patient.clone(), false, t, since));
            }
            return;
        }
        match when {
            Some(true) => {
                let (since, _) = *told.true_since.get_or_insert((t, clock));
                if t - since >= rule.hold_min * MINUTE {
                    (told.open, told.true_since) = (true, None);
                    self.since.insert((number, patient.clone()), since);
                    self.said.push((number, patient.clone(), true, t, since));
                }
            }
            Some(false) => told.true_since = None,
            // not known is not false
            None => {}
        }
    }
}

/// Without what is late, voided or corrected; two values that one device measured at one moment would be a correction.
fn in_order(history: &History) -> History {
    let (mut clock, mut measured, mut acts) = (0, BTreeSet::new(), Vec::new());
    for (after, act) in &history.acts {
        let act = match act {
            Act::Corrected { .. } | Act::Voided { .. } | Act::VoidedFirst { .. } => continue,
            Act::Reading { patient, channel, value, test, .. } => {
                if !measured.insert((clock + (*after).max(0), *patient, *channel)) {
                    continue;
                }
                Act::Reading { patient: *patient, channel: *channel, value: *value, test: *test, ago_s: 0 }
            }
            act => act.clone(),
        };
        clock += (*after).max(0);
        acts.push(((*after).max(0), act));
    }
    History { beginning: history.beginning, acts }
}

/// Which alerts are raised and cleared, when, and since when it was so.
#[test]
fn alerts_in_order_are_those_of_a_plain_reading_of_the_semantics() {
    run::hold("alerts in order", 400, &(histories(MIX), rules()), |(history, rules)| {
        let toml: String = rules.iter().enumerate().map(|(number, rule)| rule.toml(number)).collect();
        // what two predicates contradict is refused, and is no rule
        if engine::compile(&toml).is_err() {
            return Ok(());
        }
        let history = in_order(history);
        let log = history.arrivals(&[&toml]);
        let mut plain = Plain::default();
        for arrival in &log {
            let clock = arrival.arrived_at.0;
            plain.timers(rules, clock);
            match &arrival.input {
                Input::Reading(reading) => {
                    if !plain.people.entry(reading.patient.clone()).or_default().hear(reading) {
                        continue;
                    }
                    for (number, rule) in rules.iter().enumerate() {
                        if rule.uses(reading.metric) {
                            plain.row(rules, number, &reading.patient, reading.at.0, clock);
                        }
                    }
                }
                Input::Settings(settings) => {
                    plain.people.entry(settings.patient.clone()).or_default().settings = Some(settings.clone());
                    for (number, rule) in rules.iter().enumerate() {
                        let newest = plain.people[&settings.patient].frontier(|metric| rule.uses(metric));
                        // exactly the horizon is inside
                        if let Some(newest) = newest.filter(|newest| clock - newest <= 2 * HOUR) {
                            plain.row(rules, number, &settings.patient, newest, clock);
                        }
                    }
                }
                _ => {}
            }
        }
        let outputs = Engine::new(Config::default()).apply(&log);
        let said = outputs.iter().filter_map(|output| match output {
            Output::Transition(t) if matches!(t.kind, TransitionKind::Raised | TransitionKind::Cleared) => {
                let number: usize = t.rule.as_str().strip_prefix('r')?.parse().ok()?;
                Some((number, t.patient.clone(), t.kind == TransitionKind::Raised, t.at.0, t.since.0))
            }
            _ => None,
        });
        let (mut said, mut expected): (Vec<Said>, Vec<Said>) = (said.collect(), plain.said);
        // of one rule and patient in the order in which it was said
        said.sort_by_key(|one| (one.0, one.1.clone()));
        expected.sort_by_key(|one| (one.0, one.1.clone()));
        if said == expected {
            return Ok(());
        }
        let first = said.iter().zip(&expected).position(|(said, expected)| said != expected).unwrap_or(said.len().min(expected.len()));
        Err(format!("{toml}\nthe engine says {:?}\nplainly it is {:?}", said.get(first), expected.get(first)))
    });
}

/// Whatever came before, late, twice, corrected, voided, moved and out of order: a rule that waits for nothing is open after a reading that is its newest
/// if and only if it is so by all that is known then.
#[test]
fn alerts_are_open_when_it_is_so_by_all_that_is_known() {
    let mix = Mix { pauses: 0, rules: 0, limits: 2, ..EVERYTHING };
    run::hold("alerts of what is known", 300, &(histories(mix), rules()), |(history, rules)| {
        let rules: Vec<Rule> = rules.iter().map(|rule| Rule { hold_min: 0, clear_by: None, ..rule.clone() }).collect();
        let toml: String = rules.iter().enumerate().map(|(number, rule)| rule.toml(number)).collect();
        if engine::compile(&toml).is_err() {
            return Ok(());
        }
        let (mut people, mut engine) = (BTreeMap::<PatientId, Person>::new(), Engine::new(Config::default()));
        for arrival in history.arrivals(&[&toml]) {
            engine.apply(std::slice::from_ref(&arrival));
            let Some(patient) = arrival.input.patient() else { continue };
            let person = people.entry(patient.clone()).or_default();
            match &arrival.input {
                Input::Void(void) => person.void(void),
                Input::Settings(settings) => person.settings = Some(settings.clone()),
                Input::Reading(reading) => {
                    let before: Vec<Option<i64>> = rules.iter().map(|rule| person.frontier(|metric| rule.uses(metric))).collect();
                    if !person.hear(reading) {
                        continue;
                    }
                    let open: BTreeSet<String> = engine.open_alerts(patient).into_iter().map(|open| open.rule.to_string()).collect();
                    for (number, (rule, before)) in rules.iter().zip(before).enumerate() {
                        let newest = rule.uses(reading.metric) && before.is_none_or(|before| before <= reading.at.0);
                        let Some(so) = person.when(rule, reading.at.0).filter(|_| newest) else { continue };
                        if open.contains(&format!("r{number}")) != so {
                            return Err(format!(
                                "{toml}\nat {} (record {}) r{number} is {so} by all that is known, and the engine has open {open:?}",
                                reading.at, arrival.offset
                            ));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    });
}
