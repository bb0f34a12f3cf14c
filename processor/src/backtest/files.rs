//! Which files of the raw layer a back-test reads, and one of them, open.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use bytes::Bytes;
use journal::Topic;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::statistics::Statistics;
use schemas::{Arrived, Partition};
use sha2::{Digest, Sha256};

use crate::lake::{self, Footer, LakeError, RawFile};
use crate::objects::Objects;

/// Rows that become inputs at a time.
const BATCH: usize = 8192;
/// Few different words in many rows.
const WORDS: [&str; 5] = ["kind", "patient", "device", "metric", "clock"];
/// Of a reading, all that the engine looks at.
const READING: [&str; 14] =
    ["offset", "arrived_at", "kind", "patient", "reading", "device", "metric", "value", "at", "stamped_at", "received_at", "clock", "typed", "test"];

/// The files of every partition of `raw/inputs`, in the order of their offsets.
pub fn of_inputs(objects: &dyn Objects) -> Result<BTreeMap<Partition, Vec<RawFile>>, LakeError> {
    let mut partitions: BTreeMap<Partition, Vec<RawFile>> = BTreeMap::new();
    for date in objects.list(&format!("raw/{}", lake::folder(Topic::Inputs)))? {
        for file in objects.list(&date)?.iter().filter_map(|name| lake::parse(name)) {
            partitions.entry(file.partition).or_default().push(file);
        }
    }
    for files in partitions.values_mut() {
        files.sort_by(|a, b| (a.first, &a.date).cmp(&(b.first, &b.date)));
    }
    Ok(partitions)
}

/// The date of the folder of what arrives then.
pub fn date(arrived: Arrived) -> String {
    arrived.to_string().split_once('T').map_or("9999-12-31", |(date, _)| date).to_owned()
}

/// A file of `raw/inputs`, whole in memory: as large as the archive makes them.
pub struct OpenFile {
    file: RawFile,
    pub footer: Footer,
    bytes: Bytes,
    metadata: ArrowReaderMetadata,
}

impl OpenFile {
    pub fn open(objects: &Arc<dyn Objects>, file: &RawFile) -> Result<Self, LakeError> {
        let footer = lake::read_footer(objects, file)?;
        let bytes = Bytes::from(objects.read(&file.name)?);
        let damaged = |error: ParquetError| LakeError::Damaged { name: file.name.clone(), reason: error.to_string() };
        let options = || ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let plain = ArrowReaderMetadata::load(&bytes, options()).map_err(damaged)?;
        let words = with_words(plain.schema());
        let metadata = ArrowReaderMetadata::try_new(plain.metadata().clone(), options().with_schema(words)).map_err(damaged)?;
        Ok(Self { file: file.clone(), footer, bytes, metadata })
    }

    pub fn damaged(&self, reason: impl std::fmt::Display) -> LakeError {
        LakeError::Damaged { name: self.file.name.clone(), reason: reason.to_string() }
    }

    pub fn rows(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// A line of the manifest: what was read, to the byte.
    pub fn fingerprint(&self) -> String {
        let digest: String = Sha256::digest(&self.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {} {digest}\n", self.file.name, self.rows())
    }

    pub fn groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// When the first and the last record of a row group arrived, as its statistics say.
    pub fn arrived(&self, group: usize) -> Option<(Arrived, Arrived)> {
        let group = self.metadata.metadata().row_groups().get(group)?;
        let column = group.columns().iter().find(|column| column.column_path().string() == "arrived_at")?;
        match column.statistics()? {
            Statistics::Int64(numbers) => Some((Arrived(*numbers.min_opt()?), Arrived(*numbers.max_opt()?))),
            _ => None,
        }
    }

    fn read(&self, group: usize, columns: &[&str], selection: Option<RowSelection>) -> Result<ParquetRecordBatchReader, LakeError> {
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.bytes.clone(), self.metadata.clone());
        let wanted = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        builder = builder.with_projection(wanted).with_row_groups(vec![group]).with_batch_size(BATCH);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        builder.build().map_err(|error| self.damaged(error))
    }

    /// All rows of a group, without the records themselves.
    pub fn rows_of(&self, group: usize) -> Result<ParquetRecordBatchReader, LakeError> {
        self.read(group, &READING, None)
    }

    /// Where in the group something other than a reading or a tick stands.
    pub fn arranged(&self, group: usize) -> Result<Vec<usize>, LakeError> {
        let mut places = Vec::new();
        let mut row = 0;
        for batch in self.read(group, &["kind"], None)? {
            let batch = batch.map_err(|error| self.damaged(error))?;
            let kinds = batch.column(0).as_dictionary_opt::<Int32Type>().ok_or_else(|| self.damaged("its `kind` is no text"))?;
            let words = kinds.values().as_string_opt::<i32>().ok_or_else(|| self.damaged("its `kind` is no text"))?;
            let other: Vec<bool> = words.iter().map(|word| !matches!(word, Some("reading" | "tick"))).collect();
            if other.contains(&true) {
                let keys = kinds.keys().values().iter().enumerate();
                places.extend(keys.filter(|(_, key)| other.get(**key as usize) == Some(&true)).map(|(at, _)| row + at));
            }
            row += batch.num_rows();
        }
        Ok(places)
    }

    /// The records that stand at these places of the group, as they stood in the log.
    pub fn records(&self, group: usize, places: &[usize]) -> Result<Vec<RecordBatch>, LakeError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.metadata.metadata().row_groups().get(group).map_or(0, |group| usize::try_from(group.num_rows()).unwrap_or(0));
        let selection = RowSelection::from_consecutive_ranges(places.iter().map(|place| *place..*place + 1), rows);
        let batches = self.read(group, &["offset", "arrived_at", "value_pb"], Some(selection))?;
        batches.map(|batch| batch.map_err(|error| self.damaged(error))).collect()
    }
}

fn with_words(schema: &SchemaRef) -> SchemaRef {
    let word = |field: &Arc<Field>| match WORDS.contains(&field.name().as_str()) && *field.data_type() == DataType::Utf8 {
        true => Arc::new(field.as_ref().clone().with_data_type(DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)))),
        false => field.clone(),
    };
    Arc::new(Schema::new(schema.fields().iter().map(word).collect::<Vec<_>>()).with_metadata(schema.metadata().clone()))
}
