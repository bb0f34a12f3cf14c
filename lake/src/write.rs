//! An answer as a file, or as lines for the next program.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::FileWriter;
use arrow::json::LineDelimitedWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::error::CuratedError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Parquet,
    Csv,
    Ndjson,
    /// Arrow's file format.
    Arrow,
}

impl Shape {
    /// By the end of a file's name.
    pub fn of(name: &std::path::Path) -> Option<Self> {
        match name.extension()?.to_str()? {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "arrow" | "feather" => Some(Self::Arrow),
            _ => None,
        }
    }

    pub const fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Arrow => "arrow",
        }
    }
}

/// Writes piece by piece; what it has written is whole only after `end`.
pub enum Writer<W: Write + Send> {
    Parquet(Box<ArrowWriter<W>>),
    Csv(Box<csv::Writer<W>>),
    Ndjson(LineDelimitedWriter<W>),
    Arrow(Box<FileWriter<W>>),
}

impl<W: Write + Send> Writer<W> {
    /// # Errors
    /// When nothing can be written.
    pub fn new(shape: Shape, out: W, schema: SchemaRef) -> Result<Self, CuratedError> {
        Ok(match shape {
            Shape::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
                Self::Parquet(Box::new(ArrowWriter::try_new(out, schema, Some(properties))?))
            }
            Shape::Csv => {
                let mut writer = csv::Writer::new(out);
                // the names of the columns stand there even when no row does
                writer.write(&RecordBatch::new_empty(schema))?;
                Self::Csv(Box::new(writer))
            }
            Shape::Ndjson => Self::Ndjson(LineDelimitedWriter::new(out)),
            Shape::Arrow => Self::Arrow(Box::new(FileWriter::try_new(out, &schema)?)),
        })
    }

    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, piece: &RecordBatch) -> Result<(), CuratedError> {
        match self {
            Self::Parquet(writer) => writer.write(piece)?,
            Self::Csv(writer) => writer.write(piece)?,
            Self::Ndjson(writer) => writer.write(piece)?,
            Self::Arrow(writer) => writer.write(piece)?,
        }
        Ok(())
    }

    /// # Errors
    /// When it cannot be written.
    pub fn end(self) -> Result<(), CuratedError> {
        match self {
            Self::Parquet(writer) => drop(writer.close()?),
            Self::Csv(_) => {}
            Self::Ndjson(mut writer) => writer.finish()?,
            Self::Arrow(mut writer) => writer.finish()?,
        }
        Ok(())
    }
}
