//! Rows of the tables, and how they become columns and rows again.

mod alert;
mod reading;
mod small;
mod voided;
mod wear;
mod window;

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::TimestampMicrosecondArray;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Date32Array, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use schemas::{EventTime, Micros};

use crate::tables::Table;

pub use alert::AlertRow;
pub use reading::ReadingRow;
pub use small::{AssignmentRow, EpisodeRow, FrontierRow, PatientRow, RulesRow, SettingsRow};
pub use voided::VoidedRow;
pub use wear::{WearRow, wear};
pub use window::WindowRow;

/// Days since 1970, in UTC.
pub type Date = i32;

pub fn date_of(at: EventTime) -> Date {
    Date::try_from(at.0.div_euclid(Micros::days(1).0)).unwrap_or(if at.0 < 0 { Date::MIN } else { Date::MAX })
}

/// `2026-11-22`
pub fn date_text(date: Date) -> String {
    let midnight = EventTime(i64::from(date).saturating_mul(Micros::days(1).0)).to_string();
    midnight.split('T').next().unwrap_or_default().to_owned()
}

/// A row of one table.
pub trait Row: Sized + Clone + Send + Sync + 'static {
    const TABLE: Table;
    fn batch(rows: &[Self]) -> Result<RecordBatch, ArrowError>;
    /// # Errors
    /// When a column is missing or is not what this version writes.
    fn read(batch: &RecordBatch) -> Result<Vec<Self>, ArrowError>;
    /// The order in which rows stand in a file.
    fn order(&self, other: &Self) -> Ordering;
}

/// A row of a table that is kept by days.
pub trait Dated: Row {
    fn date(&self) -> Date;
}

/// Columns of rows, in the table's order.
pub(crate) struct Columns<'a, R> {
    rows: &'a [R],
    columns: Vec<ArrayRef>,
}

impl<'a, R: Row> Columns<'a, R> {
    pub fn of(rows: &'a [R]) -> Self {
        Self { rows, columns: Vec::new() }
    }
    fn push(mut self, column: impl Array + 'static) -> Self {
        self.columns.push(Arc::new(column));
        self
    }
    pub fn text<'b>(self, value: impl Fn(&'a R) -> &'b str) -> Self
    where
        'a: 'b,
    {
        let column = StringArray::from_iter_values(self.rows.iter().map(value));
        self.push(column)
    }
    pub fn maybe_text<'b>(self, value: impl Fn(&'a R) -> Option<&'b str>) -> Self
    where
        'a: 'b,
    {
        let column: StringArray = self.rows.iter().map(value).collect();
        self.push(column)
    }
    pub fn float(self, value: impl Fn(&R) -> Option<f64>) -> Self {
        let column: Float64Array = self.rows.iter().map(value).collect();
        self.push(column)
    }
    pub fn int(self, value: impl Fn(&R) -> Option<i64>) -> Self {
        let column: Int64Array = self.rows.iter().map(value).collect();
        self.push(column)
    }
    pub fn small(self, value: impl Fn(&R) -> Option<u32>) -> Self {
        let column: Int32Array = self.rows.iter().map(|row| value(row).map(|n| i32::try_from(n).unwrap_or(i32::MAX))).collect();
        self.push(column)
    }
    pub fn flag(self, value: impl Fn(&R) -> Option<bool>) -> Self {
        let column: BooleanArray = self.rows.iter().map(value).collect();
        self.push(column)
    }
    pub fn time(self, value: impl Fn(&R) -> Option<EventTime>) -> Self {
        let column = self.rows.iter().map(|row| value(row).map(|at| at.0)).collect::<TimestampMicrosecondArray>().with_timezone("UTC");
        self.push(column)
    }
    pub fn date(self, value: impl Fn(&R) -> Option<Date>) -> Self {
        let column: Date32Array = self.rows.iter().map(value).collect();
        self.push(column)
    }
    pub fn id(self, value: impl Fn(&R) -> Option<[u8; 16]>) -> Result<Self, ArrowError> {
        let column = FixedSizeBinaryArray::try_from_sparse_iter_with_size(self.rows.iter().map(value), 16)?;
        Ok(self.push(column))
    }
    pub fn finish(self) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(R::TABLE.schema(), self.columns)
    }
}

/// One row of a batch, by the names of its columns.
pub(crate) struct Cells<'a> {
    batch: &'a RecordBatch,
}

fn wrong(what: impl std::fmt::Display) -> ArrowError {
    ArrowError::SchemaError(what.to_string())
}

impl<'a> Cells<'a> {
    pub fn of(batch: &'a RecordBatch) -> Self {
        Self { batch }
    }

    fn column(&self, name: &str, of: &DataType) -> Result<&'a ArrayRef, ArrowError> {
        let column = self.batch.column_by_name(name).ok_or_else(|| wrong(format_args!("column `{name}` is missing")))?;
        if column.data_type() == of { Ok(column) } else { Err(wrong(format_args!("column `{name}` is {} and should be {of}", column.data_type()))) }
    }

    pub fn text(&self, name: &str) -> Result<Text<'a>, ArrowError> {
        Ok(Text(self.column(name, &DataType::Utf8)?.as_string()))
    }
    pub fn float(&self, name: &str) -> Result<Numbers<'a, Float64Type>, ArrowError> {
        Ok(Numbers(self.column(name, &DataType::Float64)?.as_primitive()))
    }
    pub fn int(&self, name: &str) -> Result<Numbers<'a, Int64Type>, ArrowError> {
        Ok(Numbers(self.column(name, &DataType::Int64)?.as_primitive()))
    }
    pub fn small(&self, name: &str) -> Result<Numbers<'a, Int32Type>, ArrowError> {
        Ok(Numbers(self.column(name, &DataType::Int32)?.as_primitive()))
    }
    pub fn time(&self, name: &str) -> Result<Numbers<'a, TimestampMicrosecondType>, ArrowError> {
        let of = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
        Ok(Numbers(self.column(name, &of)?.as_primitive()))
    }
    pub fn flag(&self, name: &str) -> Result<Flags<'a>, ArrowError> {
        Ok(Flags(self.column(name, &DataType::Boolean)?.as_boolean()))
    }
    pub fn id(&self, name: &str) -> Result<Ids<'a>, ArrowError> {
        Ok(Ids(self.column(name, &DataType::FixedSizeBinary(16))?.as_fixed_size_binary()))
    }
}

pub(crate) struct Text<'a>(&'a StringArray);

impl<'a> Text<'a> {
    pub fn get(&self, row: usize) -> Option<&'a str> {
        self.0.is_valid(row).then(|| self.0.value(row))
    }
    /// What must be there.
    pub fn must(&self, row: usize) -> &'a str {
        self.get(row).unwrap_or_default()
    }
    /// As the type that it is the text of.
    pub fn parse<T: std::str::FromStr>(&self, row: usize) -> Result<T, ArrowError>
    where
        T::Err: std::fmt::Display,
    {
        self.must(row).parse().map_err(|error: T::Err| wrong(error))
    }
}

pub(crate) struct Numbers<'a, T: arrow::array::ArrowPrimitiveType>(&'a arrow::array::PrimitiveArray<T>);

impl<T: arrow::array::ArrowPrimitiveType> Numbers<'_, T> {
    pub fn get(&self, row: usize) -> Option<T::Native> {
        self.0.is_valid(row).then(|| self.0.value(row))
    }
    pub fn must(&self, row: usize) -> T::Native {
        self.get(row).unwrap_or_default()
    }
}

pub(crate) struct Flags<'a>(&'a BooleanArray);

impl Flags<'_> {
    pub fn get(&self, row: usize) -> Option<bool> {
        self.0.is_valid(row).then(|| self.0.value(row))
    }
    pub fn must(&self, row: usize) -> bool {
        self.get(row).unwrap_or_default()
    }
}

pub(crate) struct Ids<'a>(&'a FixedSizeBinaryArray);

impl Ids<'_> {
    pub fn get(&self, row: usize) -> Option<[u8; 16]> {
        self.0.is_valid(row).then(|| self.0.value(row).try_into().unwrap_or_default())
    }
}

pub(crate) fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or_default()
}
