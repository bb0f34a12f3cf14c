//! What a run left behind, and whether it is true: the ledger of the devices, the topics, the store.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::prelude::SessionContext;
use engine::{Arrival, Engine, Output};
use journal::{Event, Journal, Mode, Record, Start, Topic};
use schemas::{AlertId, CANARY_RULE, Cause, DeadLetter, EventTime, Input, Partition, Reading, Transition, TransitionKind, Window};
use serde_json::Value;

/// A publish as the devices remember it.
pub struct Published {
    pub device: String,
    pub metric: String,
    pub value: Option<f64>,
    pub measured_at: EventTime,
    pub payload: String,
    /// `None`: never acknowledged. `Some(false)`: acknowledged and refused.
    pub accepted: Option<bool>,
}

pub fn ledger(path: &Path) -> Vec<Published> {
    let mut published: BTreeMap<u64, Published> = BTreeMap::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        if let Some(publish) = entry.get("publish") {
            let payload = publish["payload"].as_str().unwrap().to_owned();
            let message: Value = serde_json::from_str(&payload).unwrap();
            let reading = &message["readings"][0];
            let one = Published {
                device: publish["topic"].as_str().unwrap().split('/').nth(2).unwrap().to_owned(),
                metric: reading["metric"].as_str().unwrap().to_owned(),
                value: reading["value"].as_f64(),
                measured_at: EventTime::parse(reading["measured_at"].as_str().unwrap()).unwrap(),
                payload,
                accepted: None,
            };
            published.insert(publish["seq"].as_u64().unwrap(), one);
        } else {
            let puback = &entry["puback"];
            published.get_mut(&puback["seq"].as_u64().unwrap()).unwrap().accepted = Some(puback["refused"].is_null());
        }
    }
    published.into_values().collect()
}

/// So that a repetition is seen.
type ByCause<T> = BTreeMap<(Partition, Cause), T>;

pub struct Topics {
    pub inputs: BTreeMap<Partition, Vec<Arrival>>,
    pub dead: Vec<DeadLetter>,
    pub windows: ByCause<Window>,
    pub transitions: ByCause<Transition>,
    evaluated: BTreeMap<Partition, i64>,
}

/// Reads everything there is. Outputs that were repeated must have been repeated as they were.
pub async fn topics(journal: &Arc<dyn Journal>, lake: &Path) -> Topics {
    let mut inputs: BTreeMap<Partition, Vec<Arrival>> = BTreeMap::new();
    for (partition, record) in read(journal, Topic::Inputs).await {
        let arrival = Arrival { offset: record.offset, arrived_at: record.arrived_at, input: Input::decode(&record.value).unwrap() };
        inputs.entry(partition).or_default().push(arrival);
    }
    let dead = read(journal, Topic::DeadLetters).await.into_iter().map(|(_, record)| DeadLetter::decode(&record.value).unwrap()).collect();
    let mut windows = BTreeMap::new();
    for (partition, record) in read(journal, Topic::Windows).await {
        let window = Window::decode(&record.value).unwrap();
        if let Some(before) = windows.insert((partition, window.cause), window.clone()) {
            assert_eq!(before, window, "a replay gives the same answer");
        }
    }
    let mut transitions = BTreeMap::new();
    for (partition, record) in read(journal, Topic::Alerts).await {
        let transition = Transition::decode(&record.value).unwrap();
        if let Some(before) = transitions.insert((partition, transition.cause), transition.clone()) {
            assert_eq!(before, transition, "a replay gives the same answer");
        }
    }
    Topics { inputs, dead, windows, transitions, evaluated: evaluated(lake) }
}

async fn read(journal: &Arc<dyn Journal>, topic: Topic) -> Vec<(Partition, Record)> {
    let mut left: BTreeMap<Partition, schemas::Offset> = BTreeMap::new();
    for partition in (0..journal.partitions()).map(Partition) {
        let range = journal.range(topic, partition).await.unwrap();
        if range.earliest < range.next {
            left.insert(partition, range.next);
        }
    }
    let mut reader = journal.reader(topic, Mode::Follow).unwrap();
    let mut all = Vec::new();
    while !left.is_empty() {
        match reader.next().await.unwrap() {
            Event::Assigned { partition, .. } => reader.start(partition, Start::Earliest),
            Event::Batch { partition, records, .. } => {
                let last = records.last().unwrap().offset.0 + 1;
                all.extend(records.into_iter().map(|record| (partition, record)));
                if left.get(&partition).is_some_and(|next| last >= next.0) {
                    left.remove(&partition);
                }
            }
            event => panic!("{event:?}"),
        }
    }
    all
}

/// Where the processor's last snapshot stands: everything before it has had its effect (P6).
pub fn evaluated(lake: &Path) -> BTreeMap<Partition, i64> {
    let mut next = BTreeMap::new();
    for folder in std::fs::read_dir(lake.join("snapshots")).into_iter().flatten() {
        let folder = folder.unwrap();
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<i64>().unwrap_or(0));
        next.insert(Partition(folder.file_name().to_str().unwrap().parse().unwrap()), names.max().unwrap_or(0));
    }
    next
}

/// Whether the engine has seen every reading, and the store every transition.
pub async fn caught_up(topics: &Topics, journal: &Arc<dyn Journal>, store: &store::Store) -> bool {
    for (partition, inputs) in &topics.inputs {
        let last = inputs.iter().filter(|arrival| matches!(&arrival.input, Input::Reading(r) if !is_canary(r))).map(|arrival| arrival.offset.0).max();
        let said = journal.range(Topic::Alerts, *partition).await.unwrap().next;
        let heard = store.position("alerts", Topic::Alerts.name(), *partition).await.unwrap();
        if last >= Some(topics.evaluated.get(partition).copied().unwrap_or(0)) || heard < said {
            return false;
        }
    }
    true
}

fn is_canary(reading: &Reading) -> bool {
    reading.patient.as_str().starts_with("vigil-canary")
}

impl Topics {
    /// What the engine makes of the inputs in one go, as far as the processor had come.
    fn answer(&self) -> (ByCause<Window>, ByCause<Transition>) {
        let (mut windows, mut transitions) = (BTreeMap::new(), BTreeMap::new());
        for (partition, inputs) in &self.inputs {
            let mut engine = Engine::new(engine::Config { partition: *partition, ..engine::Config::default() });
            let next = self.evaluated.get(partition).copied().unwrap_or(0);
            let until = inputs.partition_point(|arrival| arrival.offset.0 < next);
            for output in engine.apply(&inputs[..until]) {
                match output {
                    Output::Window(window) => drop(windows.insert((*partition, window.cause), window)),
                    Output::Transition(transition) => drop(transitions.insert((*partition, transition.cause), transition)),
                }
            }
        }
        (windows, transitions)
    }

    pub fn readings(&self) -> impl Iterator<Item = &Reading> {
        self.inputs.values().flatten().filter_map(|arrival| match &arrival.input {
            Input::Reading(reading) if !is_canary(reading) => Some(reading),
            _ => None,
        })
    }

    /// The readings of each patient as they were first heard.
    pub fn order_heard(&self) -> BTreeMap<String, Vec<String>> {
        let mut heard: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut known = HashSet::new();
        for reading in self.readings().filter(|reading| known.insert(reading.id)) {
            heard.entry(reading.patient.to_string()).or_default().push(format!("{} {}", reading.metric, reading.stamped_at));
        }
        heard
    }

    /// How many readings one engine takes from each partition's whole log, repetitions and canaries left out.
    pub fn readings_of_the_engine(&self) -> usize {
        let one = |(partition, inputs): (&Partition, &Vec<Arrival>)| {
            let mut engine = Engine::new(engine::Config { partition: *partition, ..engine::Config::default() });
            engine.apply(inputs);
            engine.stats().readings as usize - inputs.iter().filter(|arrival| matches!(&arrival.input, Input::Reading(r) if is_canary(r))).count()
        };
        self.inputs.iter().map(one).sum()
    }

    /// J1, I1, I2: what was acknowledged is in `inputs` or in `dead-letters`, as the PUBACK said. How many in each.
    pub fn hold_what_was_acknowledged(&self, ledger: &[Published]) -> (usize, usize) {
        let stored: HashSet<_> = self.readings().map(|r| (r.device.to_string(), r.metric.to_string(), r.stamped_at, r.value_as_sent.to_bits())).collect();
        let dead: HashSet<&[u8]> = self.dead.iter().map(|dead| &dead.payload[..]).collect();
        let (mut accepted, mut refused) = (0, 0);
        for one in ledger {
            match one.accepted {
                Some(true) => {
                    let key = (one.device.clone(), one.metric.clone(), one.measured_at, one.value.unwrap_or(f64::NAN).to_bits());
                    assert!(stored.contains(&key), "acknowledged and lost: {}", one.payload);
                    accepted += 1;
                }
                Some(false) => {
                    let reading = serde_json::from_str::<Value>(&one.payload).unwrap()["readings"][0].to_string();
                    assert!(dead.contains(one.payload.as_bytes()) || dead.contains(reading.as_bytes()), "refused and lost: {}", one.payload);
                    refused += 1;
                }
                None => {}
            }
        }
        (accepted, refused)
    }

    /// P1, P6: what stands in the topics is what the engine says of the inputs in one go, each once.
    pub fn equal_one_uninterrupted_run(&self) -> (usize, usize) {
        let (windows, transitions) = self.answer();
        assert_eq!(self.windows.keys().collect::<Vec<_>>(), windows.keys().collect::<Vec<_>>(), "the same windows by cause");
        assert_eq!(self.windows, windows);
        assert_eq!(self.transitions.keys().collect::<Vec<_>>(), transitions.keys().collect::<Vec<_>>(), "the same transitions by cause");
        assert_eq!(self.transitions, transitions);
        (windows.len(), transitions.len())
    }

    /// P5: the last revision of every closed window is what batch SQL says of the ledger.
    pub async fn equal_batch_sql(&self, ledger: &SessionContext) -> usize {
        let sql = "SELECT patient, metric, at - at % 300000000 AS start, count(*) AS n, sum(value) AS total, min(value) AS low, max(value) AS high,
                          max(max(at)) OVER (PARTITION BY patient, metric) AS frontier
                   FROM ledger GROUP BY patient, metric, at - at % 300000000";
        let mut expected = BTreeMap::new();
        for batch in ledger.sql(sql).await.unwrap().collect().await.unwrap() {
            let int = |name: &str| int(&batch, name);
            let float = |name: &str| batch.column_by_name(name).unwrap().as_any().downcast_ref::<Float64Array>().unwrap().values().to_vec();
            let (patient, metric, start, n, frontier) = (text(&batch, "patient"), text(&batch, "metric"), int("start"), int("n"), int("frontier"));
            let (total, low, high) = (float("total"), float("low"), float("high"));
            for row in 0..batch.num_rows() {
                let closed = start[row] + 300_000_000 <= frontier[row];
                expected.insert((patient[row].clone(), metric[row].clone(), start[row]), (closed, n[row] as u64, total[row], low[row], high[row]));
            }
        }
        let mut last: BTreeMap<_, &Window> = BTreeMap::new();
        for window in self.windows.values().filter(|window| !window.patient.as_str().starts_with("vigil-canary")) {
            let newest = last.entry((window.patient.to_string(), window.metric.to_string(), window.start.0)).or_insert(window);
            if window.revision >= newest.revision {
                *newest = window;
            }
        }
        for (key, window) in &last {
            let (_, n, total, low, high) = expected.get(key).unwrap_or_else(|| panic!("a window of readings that nobody sent: {key:?}"));
            assert_eq!((window.count, window.min, window.max), (*n, *low, *high), "{key:?}");
            assert!((window.sum - total).abs() < 1e-6, "{key:?}: {} {total}", window.sum);
        }
        for (key, (closed, ..)) in &expected {
            assert!(!closed || last.contains_key(key), "a closed window is missing: {key:?}");
        }
        last.len()
    }

    /// Of patients who are never heard late, every alert's beginning and end is what batch SQL says of the ledger.
    pub async fn alerts_equal_batch_sql(&self, ledger: &SessionContext, patients: &BTreeSet<String>) -> usize {
        let mut expected = BTreeSet::new();
        for rule in RULES {
            for batch in ledger.sql(&rule.sql()).await.unwrap().collect().await.unwrap() {
                let raised = batch.column_by_name("raises").unwrap().as_boolean().values().iter();
                for ((patient, at), raised) in text(&batch, "patient").into_iter().zip(int(&batch, "at")).zip(raised) {
                    expected.insert((patient, rule.id.to_owned(), EventTime(at), raised));
                }
            }
        }
        expected.retain(|(patient, ..)| patients.contains(patient));
        let on_readings = self.transitions.values().filter(|t| !t.technical && patients.contains(t.patient.as_str()));
        let told = on_readings.map(|t| (t.patient.to_string(), t.rule.to_string(), t.at, t.kind == TransitionKind::Raised)).collect::<BTreeSet<_>>();
        assert_eq!(told, expected);
        expected.iter().filter(|(.., raised)| *raised).count()
    }

    /// A1, A2: each raised alert is one episode, in the state that its transitions end in.
    pub async fn equal_the_episodes(&self, store: &store::Store) -> usize {
        let mut state: BTreeMap<_, store::episodes::State> = BTreeMap::new();
        for transition in self.transitions.values().filter(|t| t.rule.as_str() != CANARY_RULE) {
            use store::episodes::State;
            let state = state.entry(transition.alert).or_insert(State::Open);
            match transition.kind {
                TransitionKind::Cleared => *state = State::Cleared,
                TransitionKind::Withdrawn => *state = State::Withdrawn,
                TransitionKind::Raised | TransitionKind::Amended => {}
            }
        }
        let mut stored = BTreeMap::new();
        let mut cursor = None;
        loop {
            let (episodes, next) = store.episodes(&store::episodes::EpisodeFilter::default(), cursor, 500).await.unwrap();
            stored.extend(episodes.into_iter().map(|episode| (episode.alert, episode.state)));
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(stored.keys().collect::<Vec<_>>(), state.keys().collect::<Vec<_>>(), "each alert is one episode");
        assert_eq!(stored, state);
        stored.len()
    }

    /// Alerts that rest on readings alone, with their ids.
    pub fn alerts(&self) -> BTreeSet<(String, String, EventTime, AlertId)> {
        let raised = self.transitions.values().filter(|t| t.kind == TransitionKind::Raised && !t.technical && t.rule.as_str() != CANARY_RULE);
        raised.map(|t| (t.patient.to_string(), t.rule.to_string(), t.at, t.alert)).collect()
    }
}

/// What was acknowledged, each reading once, as a table `ledger`.
pub fn table(ledger: &[Published], patient_of: &BTreeMap<String, String>) -> SessionContext {
    let mut distinct = BTreeMap::new();
    for one in ledger.iter().filter(|one| one.accepted == Some(true)) {
        distinct.insert((one.device.clone(), one.metric.clone(), one.measured_at), one.value.unwrap());
    }
    let column = |of: &dyn Fn(&(String, String, EventTime)) -> String| Arc::new(StringArray::from_iter_values(distinct.keys().map(of))) as ArrayRef;
    let batch = RecordBatch::try_from_iter([
        ("patient", column(&|key| patient_of[&key.0].clone())),
        ("metric", column(&|key| key.1.clone())),
        ("at", Arc::new(Int64Array::from_iter_values(distinct.keys().map(|key| key.2.0)))),
        ("value", Arc::new(Float64Array::from_iter_values(distinct.values().copied()))),
    ])
    .unwrap();
    let context = SessionContext::new();
    context.register_batch("ledger", batch).unwrap();
    context
}

fn text(batch: &RecordBatch, name: &str) -> Vec<String> {
    let column = cast(batch.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
    column.as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect()
}

fn int(batch: &RecordBatch, name: &str) -> Vec<i64> {
    batch.column_by_name(name).unwrap().as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
}

/// A rule of `engine/rules/default.toml` on the mean of 5 minutes that needs two samples, said again in SQL.
struct RuleInSql {
    id: &'static str,
    metric: &'static str,
    when: &'static str,
    clear: &'static str,
    hold_s: i64,
}

/// Those that the recording's metrics touch.
const RULES: [RuleInSql; 3] = [
    RuleInSql { id: "spo2-low", metric: "spo2", when: "mean < 90", clear: "mean >= 92", hold_s: 60 },
    RuleInSql { id: "heart-rate-high", metric: "heart_rate", when: "mean > 130", clear: "mean <= 125", hold_s: 120 },
    RuleInSql { id: "heart-rate-low", metric: "heart_rate", when: "mean < 41", clear: "mean >= 44", hold_s: 120 },
];

impl RuleInSql {
    /// Gaps and islands: a stretch of TRUE that no FALSE breaks raises once it has held; `clear` ends what was raised.
    fn sql(&self) -> String {
        let Self { metric, when, clear, hold_s, .. } = self;
        format!(
            "WITH means AS (SELECT patient, at, avg(value) OVER five AS mean, count(*) OVER five AS n FROM ledger WHERE metric = '{metric}'
                            WINDOW five AS (PARTITION BY patient ORDER BY at RANGE BETWEEN 299999999 PRECEDING AND CURRENT ROW)),
                  said AS (SELECT patient, at, CASE WHEN n >= 2 THEN {when} END AS up, CASE WHEN n >= 2 THEN {clear} END AS down FROM means),
                  islands AS (SELECT *, sum(CASE WHEN up = false THEN 1 ELSE 0 END) OVER (PARTITION BY patient ORDER BY at) AS island FROM said),
                  held AS (SELECT *, at - min(CASE WHEN up THEN at END) OVER (PARTITION BY patient, island ORDER BY at) >= {hold_s} * 1000000 AS held FROM islands),
                  turns AS (SELECT patient, at, coalesce(up, false) AS raises FROM held WHERE (up AND held) OR (down AND up IS NOT TRUE)),
                  told AS (SELECT *, lag(raises) OVER (PARTITION BY patient ORDER BY at) AS before FROM turns)
             SELECT patient, at, raises FROM told WHERE raises IS DISTINCT FROM coalesce(before, false)"
        )
    }
}
