//! What stands in the lake: the Arrow schemas of `raw/{topic}`. Times are UTC in microseconds.
//!
//! Every row begins with `partition`, `offset`, `arrived_at` (the journal's) and `key`, and ends with `value_pb`: the record itself, so nothing is
//! lost. The columns in between are for analysts; all but `kind` are NULL in a record that this version could not read.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let mut fields = vec![
        Field::new("partition", DataType::UInt32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("arrived_at", time(), false),
        Field::new("key", DataType::Binary, false),
    ];
    fields.extend(columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)));
    fields.push(Field::new("value_pb", DataType::Binary, false));
    Arc::new(Schema::new(fields).with_metadata([("vigil.schema_version".to_owned(), "1".to_owned())].into()))
}

/// `raw/inputs`: one row per record. `kind` is `reading`, `void`, `settings`, `rule_set`, `tick` or `unreadable`; the columns of a reading are
/// NULL for the others (a void fills `reading`, `patient`, `metric`, `at`, and settings `patient`).
pub fn inputs_schema() -> SchemaRef {
    schema(&[
        ("kind", DataType::Utf8),
        ("patient", DataType::Utf8),
        ("reading", DataType::FixedSizeBinary(16)),
        ("device", DataType::Utf8),
        ("metric", DataType::Utf8),
        ("value", DataType::Float64),
        ("unit", DataType::Utf8),
        ("at", time()),
        ("stamped_at", time()),
        ("received_at", time()),
        ("clock", DataType::Utf8),
        ("typed", DataType::Boolean),
        ("test", DataType::Boolean),
    ])
}

/// `raw/windows`.
pub fn windows_schema() -> SchemaRef {
    schema(&[
        ("cause_offset", DataType::Int64),
        ("cause_ordinal", DataType::UInt32),
        ("patient", DataType::Utf8),
        ("metric", DataType::Utf8),
        ("start", time()),
        ("end", time()),
        ("revision", DataType::UInt32),
        ("count", DataType::UInt64),
        ("sum", DataType::Float64),
        ("min", DataType::Float64),
        ("max", DataType::Float64),
        ("last", DataType::Float64),
    ])
}

/// `raw/alerts`: transitions; the evidence is in `value_pb`.
pub fn alerts_schema() -> SchemaRef {
    schema(&[
        ("cause_offset", DataType::Int64),
        ("cause_ordinal", DataType::UInt32),
        ("kind", DataType::Utf8),
        ("alert", DataType::FixedSizeBinary(16)),
        ("patient", DataType::Utf8),
        ("rule", DataType::Utf8),
        ("rule_version", DataType::UInt64),
        ("priority", DataType::Utf8),
        ("at", time()),
        ("since", time()),
        ("heard_at", time()),
        ("late", DataType::Boolean),
        ("pages", DataType::Boolean),
        ("technical", DataType::Boolean),
        ("shadow", DataType::Boolean),
    ])
}

/// `raw/dead-letters`: what was refused, as it was sent.
pub fn dead_letters_schema() -> SchemaRef {
    schema(&[
        ("device", DataType::Utf8),
        ("topic", DataType::Utf8),
        ("reason", DataType::Utf8),
        ("detail", DataType::Utf8),
        ("received_at", time()),
        ("content_type", DataType::Utf8),
        ("entry", DataType::UInt32),
        ("metric", DataType::Utf8),
        ("stamped_at", time()),
        ("payload", DataType::Binary),
    ])
}
