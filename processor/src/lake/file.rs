//! One file of the raw layer: records to Parquet, its footer, and records again.

use std::io::{self, Read};
use std::sync::Arc;

use arrow::array::{Array, BinaryArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use bytes::Bytes;
use journal::{Record, Topic};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaDataReader};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::ColumnPath;
use schemas::{Arrived, Offset, Partition};

use super::{LakeError, RawFile, columns};
use crate::objects::Objects;

/// Rows of a row group: enough to compress well, few enough to decode at once.
const GROUP: usize = 65_536;
/// Rows that are turned into columns, or back, at a time.
const CHUNK: usize = 8192;

const FIRST: &str = "vigil.first_offset";
const NEXT: &str = "vigil.next_offset";
const ARRIVED: &str = "vigil.last_arrived_at";
const EMPTIED: &str = "vigil.emptied_records";

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    pub first: Offset,
    /// The offset with which the next file begins.
    pub next: Offset,
    pub last_arrived_at: Arrived,
    /// Records whose patient was taken out of the lake: their places are there, and nothing else.
    pub emptied: u64,
}

fn properties(footer: &Footer) -> Result<WriterProperties, ParquetError> {
    let mut keys = vec![(FIRST, footer.first.0), (NEXT, footer.next.0), (ARRIVED, footer.last_arrived_at.0)];
    if footer.emptied > 0 {
        keys.push((EMPTIED, i64::try_from(footer.emptied).unwrap_or(i64::MAX)));
    }
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(GROUP))
        .set_created_by("vigil".to_owned())
        .set_key_value_metadata(Some(keys.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value.to_string())).collect()));
    // rising numbers: differences are smaller than a dictionary
    for column in ["offset", "arrived_at", "at", "stamped_at", "received_at"] {
        let column = ColumnPath::from(column);
        properties = properties.set_column_dictionary_enabled(column.clone(), false).set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    // each its own: a dictionary finds nothing, and nobody asks for the smallest
    for column in ["reading", "value_pb"] {
        let column = ColumnPath::from(column);
        properties = properties.set_column_dictionary_enabled(column.clone(), false).set_column_statistics_enabled(column, EnabledStatistics::None);
    }
    Ok(properties.build())
}

/// The whole file.
pub fn encode(topic: Topic, partition: Partition, footer: &Footer, records: &[Record]) -> Result<Vec<u8>, ParquetError> {
    let mut writer = ArrowWriter::try_new(Vec::new(), columns::schema(topic), Some(properties(footer)?))?;
    for chunk in records.chunks(CHUNK) {
        writer.write(&columns::batch(topic, partition, chunk)?)?;
    }
    writer.into_inner()
}

/// A file of the records that follow one another, if there is none of its name yet.
///
/// # Errors
/// When it cannot be written.
pub fn write(objects: &Arc<dyn Objects>, topic: Topic, partition: Partition, records: &[Record]) -> Result<bool, LakeError> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(false) };
    let name = super::name(topic, partition, first.offset, first.arrived_at);
    let footer = Footer { first: first.offset, next: last.offset.next(), last_arrived_at: last.arrived_at, emptied: 0 };
    let bytes = encode(topic, partition, &footer, records).map_err(|error| LakeError::Damaged { name: name.clone(), reason: error.to_string() })?;
    Ok(objects.create(&name, &bytes)?)
}

/// An object as Parquet wants to read it: piece by piece.
struct Pieces {
    objects: Arc<dyn Objects>,
    name: String,
    size: u64,
}

impl Pieces {
    fn open(objects: Arc<dyn Objects>, name: &str) -> io::Result<Self> {
        let size = objects.size(name)?;
        Ok(Self { objects, name: name.to_owned(), size })
    }
}

impl Length for Pieces {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Pieces {
    type T = io::BufReader<Piece>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(io::BufReader::new(Piece { objects: self.objects.clone(), name: self.name.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.objects.read_at(&self.name, start, length)?;
        if bytes.len() == length { Ok(bytes.into()) } else { Err(ParquetError::EOF(format!("{} of {length} bytes at {start}", bytes.len()))) }
    }
}

struct Piece {
    objects: Arc<dyn Objects>,
    name: String,
    at: u64,
}

impl Read for Piece {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.objects.read_at(&self.name, self.at, into.len())?;
        into[..bytes.len()].copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}

fn damaged(file: &RawFile, reason: impl std::fmt::Display) -> LakeError {
    LakeError::Damaged { name: file.name.clone(), reason: reason.to_string() }
}

/// What cannot be reached is not damaged.
fn failed(file: &RawFile, error: ParquetError) -> LakeError {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => LakeError::Objects(*source),
            Err(source) => damaged(file, source),
        },
        error => damaged(file, error),
    }
}

fn footer(file: &RawFile, metadata: &FileMetaData) -> Result<Footer, LakeError> {
    let number = |key: &str| {
        let found = metadata.key_value_metadata().into_iter().flatten().find(|pair| pair.key == key);
        found.and_then(|pair| pair.value.as_ref()?.parse::<i64>().ok()).ok_or_else(|| damaged(file, format_args!("it does not say `{key}`")))
    };
    let emptied = number(EMPTIED).ok().and_then(|count| u64::try_from(count).ok()).unwrap_or_default();
    let footer = Footer { first: Offset(number(FIRST)?), next: Offset(number(NEXT)?), last_arrived_at: Arrived(number(ARRIVED)?), emptied };
    if footer.first != file.first || footer.next <= footer.first {
        return Err(damaged(file, format_args!("it says that it holds {} to {}", footer.first, footer.next)));
    }
    Ok(footer)
}

/// Reads the file's end only.
pub fn read_footer(objects: &Arc<dyn Objects>, file: &RawFile) -> Result<Footer, LakeError> {
    let pieces = Pieces::open(objects.clone(), &file.name)?;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&pieces).map_err(|error| failed(file, error))?;
    footer(file, metadata.file_metadata())
}

/// The records of one file, piece by piece.
pub struct FileReader {
    file: RawFile,
    pub footer: Footer,
    batches: ParquetRecordBatchReader,
}

impl FileReader {
    pub fn open(objects: &Arc<dyn Objects>, file: &RawFile) -> Result<Self, LakeError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(Pieces::open(objects.clone(), &file.name)?).map_err(|error| failed(file, error))?;
        let footer = footer(file, builder.metadata().file_metadata())?;
        let wanted = ProjectionMask::columns(builder.parquet_schema(), ["offset", "arrived_at", "key", "value_pb"]);
        let batches = builder.with_projection(wanted).with_batch_size(CHUNK).build().map_err(|error| failed(file, error))?;
        Ok(Self { file: file.clone(), footer, batches })
    }

    fn records(&self, batch: &RecordBatch) -> Result<Vec<Record>, LakeError> {
        let column = |name: &str| batch.column_by_name(name).filter(|column| column.null_count() == 0);
        let binary = |name| column(name).and_then(|column| column.as_any().downcast_ref::<BinaryArray>());
        let offsets = column("offset").and_then(|column| column.as_any().downcast_ref::<Int64Array>());
        let arrived = column("arrived_at").and_then(|column| column.as_any().downcast_ref::<TimestampMicrosecondArray>());
        let (Some(offsets), Some(arrived), Some(keys), Some(values)) = (offsets, arrived, binary("key"), binary("value_pb")) else {
            return Err(damaged(&self.file, "it lacks offset, arrived_at, key or value_pb"));
        };
        let rows = 0..batch.num_rows();
        Ok(rows
            .map(|row| Record {
                offset: Offset(offsets.value(row)),
                arrived_at: Arrived(arrived.value(row)),
                key: Bytes::copy_from_slice(keys.value(row)),
                value: Bytes::copy_from_slice(values.value(row)),
            })
            .collect())
    }
}

/// Puts other records in the place of those for which there are any, without changing what the file answers for; how many.
pub fn rewrite(objects: &Arc<dyn Objects>, topic: Topic, file: &RawFile, dry: bool, other: impl Fn(&Record) -> Option<Record>) -> Result<u64, LakeError> {
    let reader = FileReader::open(objects, file)?;
    let (mut footer, mut records, mut changed) = (reader.footer, Vec::new(), 0);
    for piece in reader {
        for record in piece? {
            records.push(match other(&record) {
                Some(other) => {
                    changed += 1;
                    other
                }
                None => record,
            });
        }
    }
    if changed > 0 && !dry {
        footer.emptied += changed;
        let bytes = encode(topic, file.partition, &footer, &records).map_err(|error| failed(file, error))?;
        objects.replace(&file.name, &bytes)?;
    }
    Ok(changed)
}

impl Iterator for FileReader {
    type Item = Result<Vec<Record>, LakeError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.batches.next()? {
            Ok(batch) => self.records(&batch),
            Err(error) => Err(damaged(&self.file, error)),
        })
    }
}
