//! What the API says, as types: they are serialized, and the OpenAPI document is made of them. None of them can be printed by `{:?}`: they
//! hold names and values.
//!
//! An `Option` is written as `null`, never left out, and `required = true` says so in the document; what may be missing says `required = false`.

use std::collections::BTreeMap;

use engine::{Latest, Sample};
use schemas::{ClockState, EventTime, Metric, Micros, PatientId, Priority, Settings};
use serde::Serialize;
use store::episodes::{Episode, Hops, State, UNDO};
use store::users::Role;
use utoipa::ToSchema;

use crate::people::Person;

/// RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = DateTime, example = "2026-11-22T06:00:00Z")]
pub(crate) struct Time(pub EventTime);

impl From<EventTime> for Time {
    fn from(time: EventTime) -> Self {
        Self(time)
    }
}

impl From<schemas::Arrived> for Time {
    fn from(time: schemas::Arrived) -> Self {
        Self(time.as_event())
    }
}

/// The words of IEC 60601-1-8.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Priority)]
pub(crate) enum PriorityWord {
    High,
    Medium,
    Low,
}

impl From<Priority> for PriorityWord {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::High => Self::High,
            Priority::Medium => Self::Medium,
            Priority::Low => Self::Low,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Role)]
pub(crate) enum RoleWord {
    Admin,
    Clinician,
    Analyst,
}

impl From<Role> for RoleWord {
    fn from(role: Role) -> Self {
        match role {
            Role::Admin => Self::Admin,
            Role::Clinician => Self::Clinician,
            Role::Analyst => Self::Analyst,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[schema(as = AlertState)]
pub(crate) enum StateWord {
    Open,
    Cleared,
    Withdrawn,
}

impl From<State> for StateWord {
    fn from(state: State) -> Self {
        match state {
            State::Open => Self::Open,
            State::Cleared => Self::Cleared,
            State::Withdrawn => Self::Withdrawn,
        }
    }
}

impl From<StateWord> for State {
    fn from(state: StateWord) -> Self {
        match state {
            StateWord::Open => Self::Open,
            StateWord::Cleared => Self::Cleared,
            StateWord::Withdrawn => Self::Withdrawn,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Clock)]
pub(crate) enum ClockWord {
    AsSent,
    Corrected,
    Unstamped,
}

impl From<ClockState> for ClockWord {
    fn from(clock: ClockState) -> Self {
        match clock {
            ClockState::AsSent => Self::AsSent,
            ClockState::Corrected => Self::Corrected,
            ClockState::Unstamped => Self::Unstamped,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct OpenCounts {
    pub high: u32,
    pub medium: u32,
    pub low: u32,
    pub technical: u32,
}

/// Counts leave out what devices under test raised.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Ward {
    pub id: String,
    pub name: String,
    /// An IANA name.
    pub timezone: String,
    pub patients: u32,
    pub open: OpenCounts,
    /// High, not technical, not withdrawn, of any age.
    pub unacknowledged_high: u32,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Wards {
    pub wards: Vec<Ward>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Session {
    pub user: String,
    pub role: RoleWord,
    /// `null`: an API token that does not expire.
    #[schema(required = true)]
    pub expires_at: Option<Time>,
    pub installation: String,
    pub server_time: Time,
    pub wards: Vec<Ward>,
}

/// The newest value of a metric: never without its age.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Reading {
    #[schema(value_type = String, example = "spo2")]
    pub metric: Metric,
    pub value: f64,
    /// Rounded half up to the metric's digits.
    #[schema(example = "84")]
    pub text: String,
    #[schema(example = "%")]
    pub unit: &'static str,
    pub observed_at: Time,
    pub received_at: Time,
    /// From then on it is old: observed_at and twice the expected interval.
    pub stale_at: Time,
    /// When the `silent` rule of this metric raises if nothing is heard before; in the past when it has raised.
    #[schema(required = true)]
    pub silent_at: Option<Time>,
    #[schema(required = true)]
    pub previous: Option<Previous>,
    pub device: String,
    /// The most urgent open alert that looks at this metric.
    #[schema(required = true)]
    pub breach: Option<Breach>,
    pub flags: Flags,
}

#[derive(Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Previous {
    pub value: f64,
    pub observed_at: Time,
}

#[derive(Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Breach {
    pub rule: String,
    pub priority: PriorityWord,
    #[schema(required = true)]
    pub limit: Option<f64>,
}

#[derive(Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Flags {
    /// It was older than another one when it came.
    pub late: bool,
    /// Seconds from measured to received, of a late one.
    #[schema(required = true)]
    pub late_by_s: Option<i64>,
    pub clock: ClockWord,
    /// Seconds by which the device's stamp was moved, of a corrected one.
    #[schema(required = true)]
    pub clock_shift_s: Option<i64>,
    pub typed: bool,
    /// From a device under test: in no rule and no count.
    pub test: bool,
}

pub(crate) fn flags(late: bool, at: EventTime, received_at: EventTime, stamped_at: EventTime, clock: ClockState, typed: bool, test: bool) -> Flags {
    Flags {
        late,
        late_by_s: late.then(|| (received_at - at).as_seconds()),
        clock: clock.into(),
        clock_shift_s: (clock == ClockState::Corrected).then(|| (at - stamped_at).as_seconds()),
        typed,
        test,
    }
}

/// How often a metric is expected when nobody set it: what is worn measures all the time, the rest twice a day.
pub(crate) const fn default_interval(metric: Metric) -> Micros {
    match metric {
        Metric::HeartRate | Metric::Spo2 | Metric::RespiratoryRate | Metric::Battery | Metric::Steps => Micros::minutes(5),
        _ => Micros::hours(12),
    }
}

/// A value is old after twice this.
pub(crate) fn interval(settings: Option<&Settings>, metric: Metric) -> Micros {
    settings.and_then(|settings| settings.expected_interval.get(&metric).copied()).unwrap_or(default_interval(metric))
}

impl Reading {
    pub fn new(metric: Metric, latest: &Latest, expected: Micros, silent_at: Option<Time>) -> Self {
        Self {
            metric,
            value: latest.value,
            text: metric.text(latest.value),
            unit: metric.display_unit(),
            observed_at: latest.at.into(),
            received_at: latest.received_at.into(),
            stale_at: (latest.at + expected + expected).into(),
            silent_at,
            previous: latest.previous.map(|(value, at)| Previous { value, observed_at: at.into() }),
            device: latest.device.to_string(),
            breach: latest.breach.as_ref().map(|b| Breach { rule: b.rule.to_string(), priority: b.priority.into(), limit: b.limit }),
            flags: flags(latest.late, latest.at, latest.received_at, latest.stamped_at, latest.clock, latest.typed, latest.test),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SampleView {
    /// With it the reading can be voided.
    pub id: String,
    pub observed_at: Time,
    pub value: f64,
    pub flags: Flags,
    pub device: String,
}

impl From<&Sample> for SampleView {
    fn from(s: &Sample) -> Self {
        let flags = flags(s.late, s.at, s.received_at, s.stamped_at, s.clock, s.typed, s.test);
        Self { id: s.id.to_string(), observed_at: s.at.into(), value: s.value, flags, device: s.device.to_string() }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Vitals {
    pub server_time: Time,
    #[schema(value_type = String, example = "spo2")]
    pub metric: Metric,
    pub unit: &'static str,
    /// By the time measured.
    pub samples: Vec<SampleView>,
    /// What was measured before may be missing here; `null`: nothing is known to be missing.
    #[schema(required = true)]
    pub complete_since: Option<Time>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct PatientRow {
    #[schema(value_type = String)]
    pub id: PatientId,
    pub name: String,
    #[schema(example = "1945-07-14")]
    pub born: String,
    #[schema(example = "female")]
    pub sex: String,
    pub identifier: String,
    pub ward: String,
    pub monitored: bool,
    pub paused: bool,
    /// By the metric's name.
    #[schema(value_type = BTreeMap<String, Reading>)]
    pub values: BTreeMap<Metric, Reading>,
    /// When the newest reading was received.
    #[schema(required = true)]
    pub heard_at: Option<Time>,
    pub open_alerts: u32,
    /// The most urgent that is open or unacknowledged; technical ones do not count.
    #[schema(required = true)]
    pub worst: Option<PriorityWord>,
    /// A `silent` rule is raised.
    pub silent: bool,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Patients {
    pub server_time: Time,
    pub patients: Vec<PatientRow>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct PatientDetail {
    #[serde(flatten)]
    pub row: PatientRow,
    pub settings: SettingsView,
    /// The newest 100.
    pub alerts: Vec<Alert>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Settings)]
pub(crate) struct SettingsView {
    #[schema(value_type = String)]
    pub patient: PatientId,
    /// The ETag; 0 before the first.
    pub version: u64,
    pub monitored: bool,
    pub limits: BTreeMap<String, f64>,
    /// Of the limits that end by themselves: until when.
    pub limits_until: BTreeMap<String, Time>,
    /// 0 is on air, `null` is unknown.
    #[schema(required = true)]
    pub oxygen_l_min: Option<f64>,
    #[schema(minimum = 1, maximum = 2)]
    pub news2_scale: u8,
    pub pauses: Vec<PauseView>,
    #[schema(value_type = BTreeMap<String, i64>)]
    pub expected_interval_s: BTreeMap<Metric, i64>,
    pub enrolled_at: Time,
    pub author: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Pause)]
pub(crate) struct PauseView {
    pub from: Time,
    /// `null`: until further notice.
    #[schema(required = true)]
    pub until: Option<Time>,
    pub reason: String,
}

impl From<&Settings> for SettingsView {
    fn from(s: &Settings) -> Self {
        Self {
            patient: s.patient.clone(),
            version: s.version,
            monitored: s.monitored,
            limits: s.limits.clone(),
            limits_until: s.limits_until.iter().map(|(name, until)| (name.clone(), Time(*until))).collect(),
            oxygen_l_min: s.oxygen_l_min,
            news2_scale: s.news2_scale,
            pauses: s.pauses.iter().map(|p| PauseView { from: p.from.into(), until: p.until.map(Time), reason: p.reason.clone() }).collect(),
            expected_interval_s: s.expected_interval.iter().map(|(metric, interval)| (*metric, interval.as_seconds())).collect(),
            enrolled_at: s.enrolled_at.into(),
            author: s.author.clone(),
        }
    }
}

#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Alert {
    pub id: String,
    pub patient: AlertPatient,
    pub rule: String,
    pub rule_name: String,
    pub priority: PriorityWord,
    /// About a device or the system, not about a body.
    pub technical: bool,
    pub test: bool,
    pub late: bool,
    /// It was over before anyone could see it.
    pub brief: bool,
    pub state: StateWord,
    pub raised_at: Time,
    /// The engine's clock when it was raised.
    pub heard_at: Time,
    /// When the condition began.
    pub since: Time,
    #[schema(required = true)]
    pub cleared_at: Option<Time>,
    #[schema(example = "SpO₂ 84 %, limit 90, for 4 min")]
    pub summary: String,
    pub evidence: Vec<EvidenceView>,
    #[schema(required = true)]
    pub acknowledged: Option<Acknowledged>,
    /// Whose it is, claimed or given.
    #[schema(required = true)]
    pub owner: Option<String>,
    /// Nobody is paged until then.
    #[schema(required = true)]
    pub snoozed: Option<Snoozed>,
    /// What it turned out to be.
    #[schema(required = true)]
    pub verdict: Option<VerdictView>,
    /// The ETag.
    pub version: u64,
    pub partition: u32,
}

#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct AlertPatient {
    #[schema(value_type = String)]
    pub id: PatientId,
    pub name: String,
    pub born: String,
    pub ward: String,
}

#[derive(Clone, Serialize, ToSchema)]
#[schema(as = Evidence)]
pub(crate) struct EvidenceView {
    pub column: String,
    pub text: String,
    #[schema(required = true)]
    pub value: Option<f64>,
}

#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Acknowledged {
    pub by: String,
    pub at: Time,
    #[schema(required = true)]
    pub note: Option<String>,
    /// Until then the same person can take it back.
    pub undo_until: Time,
    /// Then it is paged again if it is still open; `null`: never.
    #[schema(required = true)]
    pub until: Option<Time>,
}

#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Snoozed {
    pub by: String,
    pub until: Time,
    pub reason: String,
}

#[derive(Clone, Serialize, ToSchema)]
#[schema(as = VerdictGiven)]
pub(crate) struct VerdictView {
    #[schema(example = "artefact")]
    pub verdict: &'static str,
    pub by: String,
    pub at: Time,
    #[schema(required = true)]
    pub note: Option<String>,
}

/// When it was where; `null`: not yet, or never.
#[derive(Serialize, ToSchema)]
#[schema(as = Hops)]
pub(crate) struct HopsView {
    pub measured: Time,
    pub journalled: Time,
    #[schema(required = true)]
    pub evaluated: Option<Time>,
    #[schema(required = true)]
    pub stored: Option<Time>,
    /// A first page was handed to a channel.
    #[schema(required = true)]
    pub attempted: Option<Time>,
    #[schema(required = true)]
    pub delivered: Option<Time>,
    #[schema(required = true)]
    pub seen: Option<Time>,
    #[schema(required = true)]
    pub taken: Option<Time>,
}

impl From<Hops> for HopsView {
    fn from(hops: Hops) -> Self {
        Self {
            measured: hops.measured.into(),
            journalled: hops.journalled.into(),
            evaluated: hops.evaluated.map(Time),
            stored: hops.stored.map(Time),
            attempted: hops.attempted.map(Time),
            delivered: hops.delivered.map(Time),
            seen: hops.seen.map(Time),
            taken: hops.taken.map(Time),
        }
    }
}

impl Acknowledged {
    pub fn of(episode: &Episode) -> Option<Self> {
        let given = episode.acknowledged.as_ref()?;
        Some(Self { by: given.by.clone(), at: given.at.into(), note: given.note.clone(), undo_until: (given.at + UNDO).into(), until: given.until.map(Time) })
    }
}

impl Alert {
    /// Without a person: a patient who is no longer registered.
    pub fn new(episode: &Episode, person: Option<&Person>) -> Self {
        let e = episode;
        Self {
            id: e.alert.to_string(),
            patient: AlertPatient {
                id: e.patient.clone(),
                name: person.map(|p| p.name.reveal().clone()).unwrap_or_default(),
                born: person.map(|p| p.born.reveal().clone()).unwrap_or_default(),
                ward: person.map(|p| p.ward.to_string()).unwrap_or_default(),
            },
            rule: e.rule.to_string(),
            rule_name: e.rule_name.clone(),
            priority: e.priority.into(),
            technical: e.technical,
            test: e.test,
            late: e.late,
            brief: e.brief,
            state: e.state.into(),
            raised_at: e.raised_at.into(),
            heard_at: e.heard_at.into(),
            since: e.since.into(),
            cleared_at: e.cleared_at.map(Time),
            summary: e.summary.clone(),
            evidence: e.evidence.iter().map(|e| EvidenceView { column: e.column.clone(), text: e.text.clone(), value: e.value }).collect(),
            acknowledged: Acknowledged::of(e),
            owner: e.care.owner.clone(),
            snoozed: e.care.snoozed.as_ref().map(|s| Snoozed { by: s.by.clone(), until: s.until.into(), reason: s.reason.clone() }),
            verdict: e.care.verdict.as_ref().map(|v| VerdictView { verdict: v.word.as_str(), by: v.by.clone(), at: v.at.into(), note: v.note.clone() }),
            version: e.version,
            partition: e.partition.0,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Alerts {
    pub server_time: Time,
    pub alerts: Vec<Alert>,
    /// Hand it in as `cursor` for the next page; `null` at the end.
    #[schema(required = true)]
    pub next: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AlertDetail {
    #[serde(flatten)]
    pub alert: Alert,
    pub history: Vec<HistoryView>,
    pub notifications: Vec<NotificationView>,
    /// When the next page leaves if nobody acknowledges.
    #[schema(required = true)]
    pub next_page: Option<Time>,
    pub hops: HopsView,
}

#[derive(Serialize, ToSchema)]
#[schema(as = HistoryEntry)]
pub(crate) struct HistoryView {
    pub at: Time,
    #[schema(example = "raised")]
    pub what: &'static str,
    #[schema(required = true)]
    pub by: Option<String>,
    #[schema(required = true)]
    pub note: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Notification)]
pub(crate) struct NotificationView {
    pub id: String,
    #[schema(example = "page")]
    pub kind: String,
    pub channel: String,
    #[schema(example = "sent")]
    pub state: &'static str,
    pub attempts: u32,
    pub changed_at: Time,
    #[schema(required = true)]
    pub last_error: Option<String>,
    /// Whom it is for; `null`: whoever reads the channel.
    #[schema(required = true)]
    pub person: Option<String>,
    /// What the receiver answered.
    #[schema(required = true)]
    pub receipt: Option<String>,
}

/// Every 2 s on a stream, so that a page can tell a dead stream from a dead engine.
#[derive(Serialize, ToSchema)]
pub(crate) struct Beat {
    pub server_time: Time,
    /// Of the last snapshot or delta.
    pub seq: u64,
    /// How far what is shown is behind the journal.
    pub follower_lag_ms: u64,
    /// The newest proof that the processor decided something; `null` before the first.
    #[schema(required = true)]
    pub engine_clock: Option<Time>,
    /// The oldest of the partitions' newest canaries; `null` until each partition had one.
    #[schema(required = true)]
    pub canary_at: Option<Time>,
    #[schema(required = true)]
    pub session_expires_at: Option<Time>,
    pub build: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Snapshot {
    /// Of this server's life.
    pub epoch: String,
    pub seq: u64,
    pub server_time: Time,
    pub build: String,
    #[schema(required = true)]
    pub session_expires_at: Option<Time>,
    pub wards: Vec<Ward>,
    pub patients: Vec<PatientRow>,
    /// Open ones first, then unacknowledged high ones, then what was heard in the last 24 h; 500 at most.
    pub alerts: Vec<Alert>,
    pub beat: Beat,
}

/// What changed since.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "a delta is joined from parts that all streams share; this is its schema")]
pub(crate) struct Delta {
    pub seq: u64,
    pub server_time: Time,
    pub patients: Vec<PatientDelta>,
    pub alerts: Vec<Alert>,
    #[schema(required = false)]
    pub wards: Option<Vec<Ward>>,
}

/// `null`: the last reading of the metric was voided, and nothing stands in its place.
#[derive(Serialize, ToSchema)]
#[serde(transparent)]
#[allow(dead_code, reason = "as Delta")]
pub(crate) struct ReadingOrVoid(Option<Reading>);

#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "as Delta")]
pub(crate) struct PatientDelta {
    #[schema(value_type = String)]
    pub id: PatientId,
    /// Only those that changed.
    #[schema(value_type = BTreeMap<String, ReadingOrVoid>)]
    pub values: BTreeMap<Metric, ReadingOrVoid>,
    #[schema(required = true)]
    pub heard_at: Option<Time>,
    pub open_alerts: u32,
    #[schema(required = true)]
    pub worst: Option<PriorityWord>,
    pub silent: bool,
    pub monitored: bool,
}
