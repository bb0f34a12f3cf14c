//! Raw to curated: what has arrived since the last version is put into the days that it belongs to.
//!
//! Nothing that a version names is ever changed: a day that gets something new is written again, under another name. Days that have settled stand
//! together in a file per month. What a killed compaction leaves is in no version, and the next one begins where the last version ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use journal::Topic;
use processor::lake as raw;
use schemas::{Arrived, CANARY_RULE, EventTime, Input, Metric, Micros, Offset, Partition, PatientId, ReadingId, Transition, Void, Window};
use serde::{Deserialize, Serialize};

use crate::error::CuratedError;
use crate::file::{DataFile, Growing, Opened, others, sha256};
use crate::lake::Lake;
use crate::manifest::{self, AsOf, Contents, Manifest};
use crate::progress::Progress;
use crate::rows::{AlertRow, AssignmentRow, Date, Dated, EpisodeRow, FrontierRow, PatientRow, ReadingRow, Row, RulesRow, SettingsRow, VoidedRow};
use crate::rows::{WearRow, WindowRow, date_text, wear};
use crate::tables::Table;

/// Records that are held at a time, beside one day's rows.
const HELD: usize = 2_000_000;
/// So many days before the newest one a day counts as settled, and moves into its month's file.
const SETTLED: Date = 2;
/// A file of a month is not made larger than this; the next one begins. It is in memory until it is whole.
const LARGEST: usize = 128 << 20;
/// Lists of raw files are put together when there are so many.
const LEDGERS: usize = 32;

/// What a compaction is told.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub installation: String,
    pub now: EventTime,
    pub horizon: Micros,
    /// Makes everything again from raw, beside the versions that are there.
    pub anew: bool,
    /// What the store knows; `None`: those tables stay as they are.
    pub store: Option<FromStore>,
}

#[derive(Clone, Debug, Default)]
pub struct FromStore {
    pub episodes: Vec<EpisodeRow>,
    pub patients: Vec<PatientRow>,
    pub assignments: Vec<AssignmentRow>,
}

#[derive(Clone, Debug)]
pub struct Compacted {
    pub manifest: Manifest,
    /// There was nothing new: the version is the one that was there.
    pub unchanged: bool,
    /// Records of raw that were read.
    pub records: u64,
    /// Days that were written again.
    pub days: u64,
}

/// A file of raw that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawEntry {
    pub topic: String,
    pub partition: Partition,
    pub name: String,
    pub first: Offset,
    pub next: Offset,
    pub bytes: u64,
    pub sha256: String,
}

enum Event {
    Reading(ReadingRow),
    Void(Void, Arrived),
}

type Intervals = BTreeMap<Metric, Micros>;
type Days = BTreeMap<Date, DataFile>;

pub(crate) struct Work<'a> {
    lake: &'a Lake,
    progress: &'a Progress,
    horizon: Micros,
    before: Option<Manifest>,
    days: BTreeMap<Table, Days>,
    /// The file of a month that several days are read from.
    open: Option<Opened>,
    voided: HashMap<(PatientId, ReadingId), VoidedRow>,
    settings: BTreeMap<(PatientId, i64), SettingsRow>,
    rules: BTreeMap<i64, RulesRow>,
    frontiers: HashMap<(PatientId, Metric), EventTime>,
    ledger: Vec<RawEntry>,
    raw: BTreeMap<String, BTreeMap<Partition, Offset>>,
    /// Names that were written, to be taken away if the version does not need them.
    written: BTreeSet<String>,
    records: u64,
    rewritten: u64,
}

/// What is written when too much is held: all but the newest day, of which more is still to come, if that is enough.
fn over<T>(held: &mut BTreeMap<Date, Vec<T>>, count: &mut usize) -> BTreeMap<Date, Vec<T>> {
    let newest = held.last_key_value().filter(|(_, rows)| rows.len() < HELD / 2).map(|(date, _)| *date);
    let kept = newest.map_or_else(BTreeMap::new, |newest| held.split_off(&newest));
    *count = kept.values().map(Vec::len).sum();
    std::mem::replace(held, kept)
}

/// What is left of a partition.
struct Arriving {
    partition: Partition,
    until: Offset,
    records: raw::Records,
    piece: Vec<journal::Record>,
}

impl Arriving {
    fn arrived(&self) -> Option<Arrived> {
        self.piece.first().map(|record| record.arrived_at)
    }

    /// With its next piece; `None`: it has none.
    fn next(mut self) -> Result<Option<Self>, CuratedError> {
        while self.records.next_offset() < self.until {
            let Some(piece) = self.records.next() else { break };
            self.piece = piece?;
            // the archive goes on meanwhile: what it adds is the next version's
            self.piece.retain(|record| record.offset < self.until);
            if !self.piece.is_empty() {
                return Ok(Some(self));
            }
        }
        Ok(None)
    }
}

/// Makes a new version. Blocking.
///
/// # Errors
/// When raw has a gap, a file is damaged, the lake cannot be written or is another installation's, or somebody else compacts it.
pub fn compact(lake: &Lake, wanted: &Wanted, progress: &Progress) -> Result<Compacted, CuratedError> {
    let _held = lake.hold()?;
    let newest = match manifest::open(lake, &AsOf::Newest, Some(&wanted.installation)) {
        Ok(manifest) => Some(manifest),
        Err(CuratedError::NotCompacted) => None,
        // what is damaged is not needed to make it again
        Err(CuratedError::Damaged { .. }) if wanted.anew => None,
        Err(error) => return Err(error),
    };
    let number = manifest::versions(lake)?.last().map_or(1, |newest| newest + 1);
    let mut work = Work::begin(lake, progress, wanted, if wanted.anew { None } else { newest.clone() })?;
    work.inputs()?;
    work.windows()?;
    work.alerts()?;
    if work.raw.values().all(BTreeMap::is_empty) {
        return Err(CuratedError::Empty);
    }
    work.settle()?;
    let made = work.finish(number, wanted)?;
    let unchanged = newest.as_ref().is_some_and(|newest| newest.content == made.hash() && newest.raw == made.raw);
    let (records, days, written) = (work.records, work.rewritten, std::mem::take(&mut work.written));
    let kept = match (unchanged, newest) {
        (true, Some(newest)) => newest,
        _ => {
            let mut made = made;
            made.publish(lake)?;
            made
        }
    };
    // written on the way, and written again afterwards
    let needed: BTreeSet<&str> = kept.files().map(|file| file.name.as_str()).collect();
    for name in written.iter().filter(|name| !needed.contains(name.as_str())) {
        lake.objects().remove(name).map_err(|error| lake.io(error))?;
    }
    Ok(Compacted { manifest: kept, unchanged, records, days })
}

impl<'a> Work<'a> {
    pub fn begin(lake: &'a Lake, progress: &'a Progress, wanted: &Wanted, before: Option<Manifest>) -> Result<Self, CuratedError> {
        let mut work = Self {
            lake,
            progress,
            horizon: wanted.horizon,
            days: BTreeMap::new(),
            open: None,
            voided: HashMap::new(),
            settings: BTreeMap::new(),
            rules: BTreeMap::new(),
            frontiers: HashMap::new(),
            ledger: Vec::new(),
            raw: before.as_ref().map(|before| before.raw.clone()).unwrap_or_default(),
            before: None,
            written: BTreeSet::new(),
            records: 0,
            rewritten: 0,
        };
        if let Some(before) = &before {
            for table in [Table::Readings, Table::Windows, Table::Alerts, Table::Wear] {
                let days = work.days.entry(table).or_default();
                for file in before.table(table) {
                    for day in file.days.keys() {
                        days.insert(day_of(file, day)?, file.clone());
                    }
                }
            }
            work.voided = crate::read::<VoidedRow>(lake, before)?.into_iter().map(|row| ((row.patient.clone(), row.id), row)).collect();
            work.settings = crate::read::<SettingsRow>(lake, before)?.into_iter().map(|row| ((row.patient.clone(), row.version), row)).collect();
            work.rules = crate::read::<RulesRow>(lake, before)?.into_iter().map(|row| (row.version, row)).collect();
            work.frontiers = crate::read::<FrontierRow>(lake, before)?.into_iter().map(|row| ((row.patient, row.metric), row.frontier)).collect();
        }
        work.before = before;
        Ok(work)
    }

    /// The records of a topic that are new, piece by piece, in the order in which they arrived: a day is then written once, not once for each partition.
    fn topic(
        &mut self,
        topic: Topic,
        mut piece: impl FnMut(&mut Self, Partition, Vec<journal::Record>) -> Result<(), CuratedError>,
    ) -> Result<(), CuratedError> {
        let objects = self.lake.objects().clone();
        let mut arriving = Vec::new();
        for partition in raw::partitions(&*objects, topic).map_err(|error| self.lake.io(error))? {
            let files = raw::files(&*objects, topic, partition).map_err(|error| self.lake.io(error))?;
            let Some(first) = files.first() else { continue };
            let known = self.before.as_ref().and_then(|before| before.next(raw::folder(topic), partition));
            let from = known.unwrap_or(first.first);
            let mut until = from;
            for file in files.iter().filter(|file| file.first >= from) {
                if file.first != until {
                    return Err(raw::LakeError::Gap { topic, partition, from: until, to: file.first }.into());
                }
                let bytes = objects.read(&file.name).map_err(|error| self.lake.io(error))?;
                let footer = raw::read_footer(&objects, file)?;
                self.ledger.push(RawEntry {
                    topic: raw::folder(topic).to_owned(),
                    partition,
                    name: file.name.clone(),
                    first: footer.first,
                    next: footer.next,
                    bytes: bytes.len() as u64,
                    sha256: sha256(&bytes),
                });
                self.progress.expect(u64::try_from(footer.next.0 - footer.first.0).unwrap_or_default());
                until = footer.next;
            }
            self.raw.entry(raw::folder(topic).to_owned()).or_default().insert(partition, until);
            let records = raw::records(objects.clone(), topic, partition, from)?;
            arriving.extend(Arriving { partition, until, records, piece: Vec::new() }.next()?);
        }
        loop {
            let earliest = (0..arriving.len()).min_by_key(|place| (arriving[*place].arrived(), arriving[*place].partition));
            let Some(mut first) = earliest.map(|place| arriving.swap_remove(place)) else { return Ok(()) };
            let found = std::mem::take(&mut first.piece);
            self.progress.go_on()?;
            self.progress.done(found.len() as u64);
            self.records += found.len() as u64;
            piece(self, first.partition, found)?;
            arriving.extend(first.next()?);
        }
    }

    fn inputs(&mut self) -> Result<(), CuratedError> {
        let mut held: BTreeMap<Date, Vec<Event>> = BTreeMap::new();
        let mut count = 0;
        self.topic(Topic::Inputs, |work, partition, records| {
            for record in records {
                // what this version cannot read stands in raw
                let Ok(input) = Input::decode(&record.value) else { continue };
                let event = match input {
                    Input::Reading(reading) if reading.metric != Metric::Canary => {
                        let mut row = ReadingRow::new(reading, partition, record.offset);
                        work.place(&mut row);
                        (row.date(), Event::Reading(row))
                    }
                    Input::Void(void) => (crate::rows::date_of(void.at), Event::Void(void, record.arrived_at)),
                    Input::Settings(settings) => {
                        let row = SettingsRow::new(settings, record.arrived_at);
                        work.settings.entry((row.patient.clone(), row.version)).or_insert(row);
                        continue;
                    }
                    Input::RuleSet(rules) => {
                        let row = RulesRow::new(rules);
                        work.rules.entry(row.version).or_insert(row);
                        continue;
                    }
                    _ => continue,
                };
                held.entry(event.0).or_default().push(event.1);
                count += 1;
            }
            if count >= HELD {
                work.apply(over(&mut held, &mut count))?;
            }
            Ok(())
        })?;
        self.apply(held)
    }

    /// SEMANTICS 20: what came behind its frontier is late, beyond the horizon it is marked as well.
    fn place(&mut self, row: &mut ReadingRow) {
        let frontier = self.frontiers.entry((row.patient.clone(), row.metric)).or_insert(row.at);
        row.late = row.at < *frontier;
        row.beyond_horizon = *frontier - row.at > self.horizon;
        *frontier = (*frontier).max(row.at);
    }

    fn opened(&mut self, table: Table, file: &DataFile) -> Result<Opened, CuratedError> {
        match &self.open {
            Some(open) if open.is(&file.name) => Ok(open.clone()),
            _ => {
                let open = Opened::open(self.lake, table, &file.name)?;
                self.open = Some(open.clone());
                Ok(open)
            }
        }
    }

    fn day<R: Dated>(&mut self, date: Date) -> Result<Vec<R>, CuratedError> {
        let Some(file) = self.days.get(&R::TABLE).and_then(|days| days.get(&date)).cloned() else { return Ok(Vec::new()) };
        self.opened(R::TABLE, &file)?.day(date)
    }

    fn put<R: Dated>(&mut self, date: Date, mut rows: Vec<R>) -> Result<(), CuratedError> {
        let days = self.days.entry(R::TABLE).or_default();
        if rows.is_empty() {
            days.remove(&date);
            return Ok(());
        }
        rows.sort_unstable_by(R::order);
        let mut file = Growing::new(R::TABLE)?;
        file.day(date, &rows)?;
        let (file, created) = file.finish(self.lake)?;
        self.written.extend(created.then(|| file.name.clone()));
        days.insert(date, file);
        Ok(())
    }

    /// How many rows of a table went.
    pub fn leave_out<R: Dated>(&mut self, patient: &PatientId, dry: bool, of: impl Fn(&R) -> &PatientId) -> Result<u64, CuratedError> {
        let files: BTreeMap<Date, DataFile> = self.days.get(&R::TABLE).cloned().unwrap_or_default();
        let mut gone = 0;
        for (date, file) in files {
            self.progress.go_on()?;
            if !self.opened(R::TABLE, &file)?.may_have(date, patient) {
                continue;
            }
            let mut rows = self.day::<R>(date)?;
            let before = rows.len();
            rows.retain(|row| of(row) != patient);
            if rows.len() < before {
                gone += (before - rows.len()) as u64;
                if !dry {
                    self.put(date, rows)?;
                }
            }
        }
        Ok(gone)
    }

    /// The same of a table that stands as the store had it.
    pub fn leave_out_small(&mut self, table: Table, patient: &PatientId, dry: bool) -> Result<u64, CuratedError> {
        let (mut gone, mut growing) = (0, Growing::new(table)?);
        let files = self.before.as_ref().map(|before| before.table(table).to_vec()).unwrap_or_default();
        for file in &files {
            let opened = Opened::open(self.lake, table, &file.name)?;
            let batches = opened.batches(opened.groups())?;
            for batch in batches {
                let (kept, went) = others(&batch?, patient)?;
                gone += went;
                growing.batch(&kept)?;
            }
        }
        if gone > 0 && !dry {
            let (file, created) = growing.finish(self.lake)?;
            self.written.extend(created.then(|| file.name.clone()));
            if let Some(before) = &mut self.before {
                before.tables.insert(table.name().to_owned(), Contents::of(vec![file]));
            }
        }
        Ok(gone)
    }

    /// What stands in no day: voids and settings that went, and voids of others that no longer say whose the reading is.
    pub fn forget(&mut self, patient: &PatientId) -> (u64, u64, u64) {
        let before = (self.voided.len(), self.settings.len());
        self.voided.retain(|(of, _), _| of != patient);
        self.settings.retain(|(of, _), _| of != patient);
        self.frontiers.retain(|(of, _), _| of != patient);
        let mut mentioned = 0;
        for row in self.voided.values_mut().filter(|row| row.moved_to.as_ref() == Some(patient)) {
            row.moved_to = None;
            mentioned += 1;
        }
        ((before.0 - self.voided.len()) as u64, (before.1 - self.settings.len()) as u64, mentioned)
    }

    /// The files of raw that were read, as they are now, in place of the lists that there are.
    pub fn relist(&mut self, ledger: Vec<RawEntry>) {
        self.ledger = ledger;
        if let Some(before) = &mut self.before {
            before.ledgers.clear();
        }
    }

    fn apply(&mut self, held: BTreeMap<Date, Vec<Event>>) -> Result<(), CuratedError> {
        for (date, events) in held {
            self.progress.go_on()?;
            let old = self.day::<ReadingRow>(date)?;
            let mut rows: HashMap<(PatientId, ReadingId), ReadingRow> = HashMap::with_capacity(old.len() + events.len());
            rows.extend(old.into_iter().map(|row| ((row.patient.clone(), row.id), row)));
            let mut changed = false;
            for event in events {
                changed |= match event {
                    Event::Reading(row) => self.reading(&mut rows, row),
                    Event::Void(void, arrived) => self.void(&mut rows, void, arrived),
                };
            }
            if !changed {
                continue;
            }
            self.rewritten += 1;
            let mut rows: Vec<ReadingRow> = rows.into_values().collect();
            rows.sort_unstable_by(Row::order);
            let worn = self.wear(&rows);
            self.put(date, rows)?;
            self.put(date, worn)?;
        }
        Ok(())
    }

    /// The same again changes nothing, another value corrects; the void wins over both (SEMANTICS 17, 18).
    fn reading(&mut self, rows: &mut HashMap<(PatientId, ReadingId), ReadingRow>, row: ReadingRow) -> bool {
        let key = (row.patient.clone(), row.id);
        if let Some(voided) = self.voided.get_mut(&key) {
            voided.reading.get_or_insert(row);
            return false;
        }
        match rows.get_mut(&key) {
            None => {
                rows.insert(key, row);
                true
            }
            Some(known) if known.value.to_bits() == row.value.to_bits() => false,
            Some(known) => {
                known.value = row.value;
                known.received_at = row.received_at;
                known.versions += 1;
                true
            }
        }
    }

    /// One that is moved to the patient it is voided of takes the void before it back (decision 008).
    fn void(&mut self, rows: &mut HashMap<(PatientId, ReadingId), ReadingRow>, void: Void, arrived: Arrived) -> bool {
        let key = (void.patient.clone(), void.reading);
        if void.moved_to.as_ref() == Some(&void.patient) {
            let Some(reading) = self.voided.remove(&key).and_then(|voided| voided.reading) else { return false };
            rows.insert(key, reading);
            return true;
        }
        let reading = rows.remove(&key);
        let changed = reading.is_some();
        self.voided.entry(key).or_insert_with(|| VoidedRow::new(void, arrived, reading));
        changed
    }

    fn wear(&self, rows: &[ReadingRow]) -> Vec<WearRow> {
        let mut of: HashMap<&PatientId, Vec<(Arrived, Intervals)>> = HashMap::new();
        for row in self.settings.values() {
            of.entry(&row.patient).or_default().push((row.arrived_at, row.intervals()));
        }
        wear(rows, |patient, metric, hour| {
            // the settings of then; before the first, the first
            let versions = of.get(patient)?;
            let then = versions.iter().rev().find(|(arrived, _)| arrived.as_event() <= hour).or_else(|| versions.first());
            then.and_then(|(_, intervals)| intervals.get(&metric).copied())
        })
    }

    fn windows(&mut self) -> Result<(), CuratedError> {
        let mut held: BTreeMap<Date, Vec<WindowRow>> = BTreeMap::new();
        let mut count = 0;
        self.topic(Topic::Windows, |work, partition, records| {
            for record in records {
                let Ok(window) = Window::decode(&record.value) else { continue };
                if window.metric != Metric::Canary {
                    let row = WindowRow { window, current: false, partition, offset: record.offset };
                    held.entry(row.date()).or_default().push(row);
                    count += 1;
                }
            }
            if count >= HELD {
                work.apply_windows(over(&mut held, &mut count))?;
            }
            Ok(())
        })?;
        self.apply_windows(held)
    }

    fn apply_windows(&mut self, held: BTreeMap<Date, Vec<WindowRow>>) -> Result<(), CuratedError> {
        for (date, new) in held {
            self.progress.go_on()?;
            let mut rows = self.day::<WindowRow>(date)?;
            let before = rows.len();
            // a replay repeats an output under the same cause
            let mut known: BTreeSet<_> = rows.iter().map(cause_of_window).collect();
            rows.extend(new.into_iter().filter(|row| known.insert(cause_of_window(row))));
            if rows.len() == before {
                continue;
            }
            self.rewritten += 1;
            let of = |row: &WindowRow| (row.window.patient.clone(), row.window.metric, row.window.start);
            let age = |row: &WindowRow| (row.window.revision, row.window.cause, row.offset);
            let mut latest = HashMap::new();
            for row in &rows {
                let latest = latest.entry(of(row)).or_insert_with(|| age(row));
                *latest = (*latest).max(age(row));
            }
            for row in &mut rows {
                row.current = latest.get(&of(row)) == Some(&age(row));
            }
            self.put(date, rows)?;
        }
        Ok(())
    }

    fn alerts(&mut self) -> Result<(), CuratedError> {
        let mut held: BTreeMap<Date, Vec<AlertRow>> = BTreeMap::new();
        self.topic(Topic::Alerts, |_, partition, records| {
            for record in records {
                let Ok(transition) = Transition::decode(&record.value) else { continue };
                if transition.rule.as_str() != CANARY_RULE {
                    let row = AlertRow::new(transition, partition, record.offset);
                    held.entry(row.date()).or_default().push(row);
                }
            }
            Ok(())
        })?;
        for (date, new) in held {
            let mut rows = self.day::<AlertRow>(date)?;
            let before = rows.len();
            let mut known: BTreeSet<_> = rows.iter().map(|row| (row.partition, row.cause)).collect();
            rows.extend(new.into_iter().filter(|row| known.insert((row.partition, row.cause))));
            if rows.len() != before {
                self.rewritten += 1;
                self.put(date, rows)?;
            }
        }
        Ok(())
    }

    /// Days that will hardly change any more move together, into the file of their month.
    pub fn settle(&mut self) -> Result<(), CuratedError> {
        self.open = None;
        let newest = self.days.get(&Table::Readings).and_then(|days| days.keys().next_back()).copied().unwrap_or(Date::MAX);
        for table in [Table::Readings, Table::Windows, Table::Alerts, Table::Wear] {
            let Some(days) = self.days.get_mut(&table) else { continue };
            let mut months: BTreeMap<String, Vec<Date>> = BTreeMap::new();
            // also one that stood in a month's file before: what is left of the file stands nowhere else
            for (date, _) in days.iter().filter(|(date, file)| **date < newest.saturating_sub(SETTLED) || file.days.len() > 1) {
                let text = date_text(*date);
                months.entry(text[..text.len() - 3].to_owned()).or_default().push(*date);
            }
            for dates in months.into_values() {
                self.progress.go_on()?;
                let mut parts: Vec<(DataFile, BTreeSet<Date>)> = Vec::new();
                for date in dates {
                    let Some(file) = days.get(&date) else { continue };
                    match parts.last_mut() {
                        Some((last, of)) if last.name == file.name => _ = of.insert(date),
                        _ => parts.push((file.clone(), [date].into())),
                    }
                }
                // one that is whole and large enough stays
                let whole = |(file, dates): &(DataFile, BTreeSet<Date>)| file.days.len() == dates.len();
                let left: Vec<_> = parts.into_iter().filter(|part| !(whole(part) && part.0.bytes as usize >= LARGEST / 2)).collect();
                if left.len() < 2 && left.iter().all(whole) {
                    continue;
                }
                let mut growing = Growing::new(table)?;
                for (place, (file, dates)) in left.iter().enumerate() {
                    growing.copy(&Opened::open(self.lake, table, &file.name)?, dates)?;
                    if growing.bytes() >= LARGEST || place + 1 == left.len() {
                        let (made, created) = std::mem::replace(&mut growing, Growing::new(table)?).finish(self.lake)?;
                        self.written.extend(created.then(|| made.name.clone()));
                        for day in made.days.keys() {
                            days.insert(day_of(&made, day)?, made.clone());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    pub fn finish(&mut self, number: u64, wanted: &Wanted) -> Result<Manifest, CuratedError> {
        let mut made = Manifest::new(number, wanted.now, wanted.installation.clone(), wanted.horizon.0);
        for (table, days) in &self.days {
            let mut files: Vec<DataFile> = Vec::new();
            for file in days.values() {
                // a day that went elsewhere: what is left of the file's days stands nowhere else
                if !files.iter().any(|known| known.name == file.name) {
                    files.push(file.clone());
                }
            }
            let stale = files.iter().find(|file| file.days.keys().any(|day| day_of(file, day).ok().and_then(|day| days.get(&day)) != Some(*file)));
            if let Some(stale) = stale {
                return Err(CuratedError::Damaged { name: stale.name.clone(), reason: "it holds a day that another file has too".to_owned() });
            }
            made.tables.insert(table.name().to_owned(), Contents::of(files));
        }
        made.rules_version = self.rules.keys().next_back().copied();
        let voided: Vec<VoidedRow> = std::mem::take(&mut self.voided).into_values().collect();
        self.small(&mut made, voided)?;
        let settings: Vec<SettingsRow> = std::mem::take(&mut self.settings).into_values().collect();
        self.small(&mut made, settings)?;
        let rules: Vec<RulesRow> = std::mem::take(&mut self.rules).into_values().collect();
        self.small(&mut made, rules)?;
        let frontiers = std::mem::take(&mut self.frontiers).into_iter();
        self.small(&mut made, frontiers.map(|((patient, metric), frontier)| FrontierRow { patient, metric, frontier }).collect())?;
        match &wanted.store {
            Some(store) => {
                self.small(&mut made, store.episodes.clone())?;
                self.small(&mut made, store.patients.clone())?;
                self.small(&mut made, store.assignments.clone())?;
            }
            None => {
                for table in [Table::Episodes, Table::Patients, Table::Assignments] {
                    let kept = self.before.as_ref().and_then(|before| before.tables.get(table.name()).cloned());
                    made.tables.insert(table.name().to_owned(), kept.unwrap_or_default());
                }
            }
        }
        made.raw = std::mem::take(&mut self.raw);
        made.ledgers = self.ledgers(number)?;
        Ok(made)
    }

    fn small<R: Row>(&mut self, made: &mut Manifest, mut rows: Vec<R>) -> Result<(), CuratedError> {
        rows.sort_by(R::order);
        let mut file = Growing::new(R::TABLE)?;
        file.rows(&rows)?;
        let (file, created) = file.finish(self.lake)?;
        self.written.extend(created.then(|| file.name.clone()));
        made.tables.insert(R::TABLE.name().to_owned(), Contents::of(vec![file]));
        Ok(())
    }

    fn ledgers(&mut self, number: u64) -> Result<Vec<DataFile>, CuratedError> {
        let mut ledgers = self.before.as_ref().map(|before| before.ledgers.clone()).unwrap_or_default();
        let mut entries = std::mem::take(&mut self.ledger);
        if ledgers.len() >= LEDGERS {
            let mut all = Vec::new();
            for file in std::mem::take(&mut ledgers) {
                all.extend(read_ledger(self.lake, &file)?);
            }
            all.append(&mut entries);
            entries = all;
        }
        if !entries.is_empty() {
            let mut text = Vec::new();
            for entry in &entries {
                serde_json::to_writer(&mut text, entry).map_err(|error| CuratedError::Damaged { name: entry.name.clone(), reason: error.to_string() })?;
                text.push(b'\n');
            }
            let digest = sha256(&text);
            let name = format!("curated/raw/{number:08}-{}.ndjson", &digest[..16]);
            if self.lake.create(&name, &text)? {
                self.written.insert(name.clone());
            }
            let file = DataFile { name, rows: entries.len() as u64, bytes: text.len() as u64, sha256: digest, days: BTreeMap::new() };
            ledgers.push(file);
        }
        Ok(ledgers)
    }
}

pub(crate) fn read_ledger(lake: &Lake, file: &DataFile) -> Result<Vec<RawEntry>, CuratedError> {
    let damaged = |reason: String| CuratedError::Damaged { name: file.name.clone(), reason };
    let bytes = lake.read(&file.name).map_err(|error| damaged(error.to_string()))?;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|error| damaged(error.to_string()))).collect()
}

fn cause_of_window(row: &WindowRow) -> (Partition, schemas::Cause) {
    (row.partition, row.window.cause)
}

pub(crate) fn day_of(file: &DataFile, day: &str) -> Result<Date, CuratedError> {
    let midnight = EventTime::parse(&format!("{day}T00:00:00Z"));
    midnight.map(crate::rows::date_of).map_err(|error| CuratedError::Damaged { name: file.name.clone(), reason: error.to_string() })
}
