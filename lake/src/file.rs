//! One file of `curated`: days one after the other, each in row groups of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Field;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use schemas::PatientId;

use crate::error::CuratedError;
use crate::lake::Lake;
use crate::rows::{Date, Row, date_text};
use crate::tables::{SCHEMA_VERSION, Table};

/// Rows of a row group: what is skipped at once when it holds none of the patients asked for.
const GROUP: usize = 131_072;
/// Rows that are turned into columns at a time.
const CHUNK: usize = 16_384;

/// A file as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    pub name: String,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
    /// First and last day in it, and the days between of which it has rows; none in tables without a date.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub days: BTreeMap<String, u64>,
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn properties(table: Table) -> Result<WriterProperties, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(GROUP))
        .set_created_by("vigil".to_owned())
        .set_key_value_metadata(Some(vec![KeyValue::new("vigil.schema_version".to_owned(), SCHEMA_VERSION.to_string())]));
    // rising or nearly rising within a patient: differences are smaller than a dictionary
    for column in ["at", "stamped_at", "start", "end", "hour", "heard_at", "offset", "cause_offset"] {
        if table.columns().iter().any(|of| of.name == column) {
            let column = ColumnPath::from(column);
            properties = properties.set_column_dictionary_enabled(column.clone(), false).set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
    }
    // the last digits are chance, and between two patients a day lies: zstd alone is smaller than either
    properties = properties.set_column_dictionary_enabled(ColumnPath::from("received_at"), false);
    let id = ColumnPath::from("reading");
    Ok(properties.set_column_dictionary_enabled(id.clone(), false).set_column_statistics_enabled(id, EnabledStatistics::None).build())
}

/// A file that grows by days, in memory until it is whole.
pub(crate) struct Growing {
    table: Table,
    writer: ArrowWriter<Vec<u8>>,
    days: BTreeMap<Date, u64>,
    rows: u64,
}

impl Growing {
    pub fn new(table: Table) -> Result<Self, CuratedError> {
        let writer = ArrowWriter::try_new(Vec::new(), table.schema(), Some(properties(table)?))?;
        Ok(Self { table, writer, days: BTreeMap::new(), rows: 0 })
    }

    /// Rows of one day, which are in order.
    pub fn day<R: Row>(&mut self, date: Date, rows: &[R]) -> Result<(), CuratedError> {
        self.rows(rows)?;
        self.end_of_day(date, rows.len() as u64)
    }

    pub fn rows<R: Row>(&mut self, rows: &[R]) -> Result<(), CuratedError> {
        for chunk in rows.chunks(CHUNK) {
            self.writer.write(&R::batch(chunk)?)?;
        }
        self.rows += rows.len() as u64;
        Ok(())
    }

    pub fn batch(&mut self, batch: &RecordBatch) -> Result<(), CuratedError> {
        self.rows += batch.num_rows() as u64;
        Ok(self.writer.write(batch)?)
    }

    /// Days of another file, as they stand there.
    pub fn copy(&mut self, file: &Opened, dates: &BTreeSet<Date>) -> Result<(), CuratedError> {
        let mut of: Option<(Date, u64)> = None;
        for (group, date) in file.days() {
            if !dates.contains(&date) {
                continue;
            }
            if let Some((before, rows)) = of.filter(|(before, _)| *before != date) {
                self.end_of_day(before, rows)?;
                of = None;
            }
            let mut rows = of.map_or(0, |(_, rows)| rows);
            for batch in file.batches(vec![group])? {
                let batch = batch?;
                rows += batch.num_rows() as u64;
                self.rows += batch.num_rows() as u64;
                self.writer.write(&batch)?;
            }
            of = Some((date, rows));
        }
        of.map_or(Ok(()), |(date, rows)| self.end_of_day(date, rows))
    }

    fn end_of_day(&mut self, date: Date, rows: u64) -> Result<(), CuratedError> {
        *self.days.entry(date).or_default() += rows;
        Ok(self.writer.flush()?)
    }

    /// How large it is by now.
    pub fn bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Puts it into the lake under a name that says what is in it; `true` if it was not there already.
    pub fn finish(self, lake: &Lake) -> Result<(DataFile, bool), CuratedError> {
        let (table, rows) = (self.table, self.rows);
        let days: BTreeMap<String, u64> = self.days.iter().map(|(date, rows)| (date_text(*date), *rows)).collect();
        let bytes = self.writer.into_inner()?;
        let sha256 = sha256(&bytes);
        let name = match (days.keys().next(), days.keys().next_back()) {
            (Some(first), Some(last)) => format!("curated/{}/{}/{first}_{last}-{}.parquet", table.name(), &first[..first.len() - 3], &sha256[..16]),
            _ => format!("curated/{}/{}-{}.parquet", table.name(), table.name(), &sha256[..16]),
        };
        let created = lake.create(&name, &bytes)?;
        Ok((DataFile { name, rows, bytes: bytes.len() as u64, sha256, days }, created))
    }
}

/// A file whose end was read and found to be what this version writes.
#[derive(Clone)]
pub(crate) struct Opened {
    name: String,
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
}

fn damaged(name: &str, reason: impl std::fmt::Display) -> CuratedError {
    CuratedError::Damaged { name: name.to_owned(), reason: reason.to_string() }
}

impl Opened {
    pub fn open(lake: &Lake, table: Table, name: &str) -> Result<Self, CuratedError> {
        let bytes = Bytes::from(lake.read(name).map_err(|error| damaged(name, error))?);
        let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new()).map_err(|error| damaged(name, error))?;
        let version = metadata.metadata().file_metadata().key_value_metadata().into_iter().flatten().find(|pair| pair.key == "vigil.schema_version");
        let version =
            version.and_then(|pair| pair.value.as_ref()?.parse::<u32>().ok()).ok_or_else(|| damaged(name, "it does not say `vigil.schema_version`"))?;
        if version != SCHEMA_VERSION {
            return Err(CuratedError::Format { name: name.to_owned(), found: version, known: SCHEMA_VERSION });
        }
        let same = |(a, b): (&Arc<Field>, &Arc<Field>)| a.name() == b.name() && a.data_type() == b.data_type();
        let (found, known) = (metadata.schema().fields(), table.schema());
        if found.len() != known.fields().len() || !found.iter().zip(known.fields()).all(same) {
            return Err(damaged(name, "its columns are not those of this version"));
        }
        Ok(Self { name: name.to_owned(), bytes, metadata })
    }

    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Its row groups, each with the day of its rows.
    pub fn days(&self) -> Vec<(usize, Date)> {
        let groups = 0..self.metadata.metadata().num_row_groups();
        groups.filter_map(|group| Some((group, day_of_group(&self.metadata, group)?))).collect()
    }

    /// Whether a day can have rows of a patient: by what its row groups say of the smallest and the largest id.
    pub fn may_have(&self, date: Date, patient: &PatientId) -> bool {
        let of_day = self.days().into_iter().filter(|(_, of)| *of == date).map(|(group, _)| group);
        of_day.into_iter().any(|group| {
            let columns = self.metadata.metadata().row_groups().get(group).map(|group| group.columns()).unwrap_or_default();
            let column = columns.iter().find(|column| column.column_path().string() == "patient");
            match column.and_then(|column| column.statistics()) {
                Some(Statistics::ByteArray(ids)) => {
                    let (least, most) = (ids.min_opt().map(|id| id.data()), ids.max_opt().map(|id| id.data()));
                    least.is_none_or(|least| least <= patient.as_bytes()) && most.is_none_or(|most| most >= patient.as_bytes())
                }
                // it says nothing: look
                _ => true,
            }
        })
    }

    pub fn batches(&self, groups: Vec<usize>) -> Result<impl Iterator<Item = Result<RecordBatch, CuratedError>> + use<'_>, CuratedError> {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), self.metadata.clone());
        let reader = builder.with_row_groups(groups).with_batch_size(CHUNK).build().map_err(|error| damaged(&self.name, error))?;
        Ok(reader.map(|batch| batch.map_err(|error| damaged(&self.name, error))))
    }

    fn rows_of<R: Row>(&self, groups: Vec<usize>) -> Result<Vec<R>, CuratedError> {
        let mut rows = Vec::new();
        for batch in self.batches(groups)? {
            rows.extend(R::read(&batch?).map_err(|error| damaged(&self.name, error))?);
        }
        Ok(rows)
    }

    pub fn day<R: Row>(&self, date: Date) -> Result<Vec<R>, CuratedError> {
        self.rows_of(self.days().into_iter().filter(|(_, of)| *of == date).map(|(group, _)| group).collect())
    }

    pub fn groups(&self) -> Vec<usize> {
        (0..self.metadata.metadata().num_row_groups()).collect()
    }

    pub fn all<R: Row>(&self) -> Result<Vec<R>, CuratedError> {
        self.rows_of(self.groups())
    }
}

/// The rows of a batch that are of other patients, and how many are not.
pub(crate) fn others(batch: &RecordBatch, patient: &PatientId) -> Result<(RecordBatch, u64), CuratedError> {
    let of = batch.column_by_name("patient").and_then(|column| column.as_any().downcast_ref::<StringArray>());
    let Some(of) = of else { return Ok((batch.clone(), 0)) };
    let other: BooleanArray = of.iter().map(|of| Some(of != Some(patient.as_str()))).collect();
    let kept = filter_record_batch(batch, &other)?;
    let gone = (batch.num_rows() - kept.num_rows()) as u64;
    Ok((kept, gone))
}

fn day_of_group(metadata: &ArrowReaderMetadata, group: usize) -> Option<Date> {
    let group = metadata.metadata().row_groups().get(group)?;
    let column = group.columns().iter().find(|column| column.column_path().string() == "date")?;
    match column.statistics()? {
        Statistics::Int32(days) => days.min_opt().copied(),
        _ => None,
    }
}
