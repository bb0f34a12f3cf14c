//! What stands in the lake: the Arrow schemas of `raw/{topic}`. Times are UTC in microseconds; `offset` and `arrived_at` are the journal's.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    let fields: Vec<Field> = fields.iter().map(|(name, kind, nullable)| Field::new(*name, kind.clone(), *nullable)).collect();
    Arc::new(Schema::new(fields).with_metadata([("vigil.schema_version".to_owned(), "1".to_owned())].into()))
}

/// `raw/vigil.inputs`: one row per record. `kind` is `reading`, `void`, `settings`, `rule_set` or `tick`; the columns of a reading are
/// NULL for the others (a void fills `reading`, `patient`, `metric`, `at`); `value_pb` is the record itself, so nothing is lost and the back-test can feed the engine.
pub fn inputs_schema() -> SchemaRef {
    schema(&[
        ("partition", DataType::UInt32, false),
        ("offset", DataType::Int64, false),
        ("arrived_at", time(), false),
        ("kind", DataType::Utf8, false),
        ("patient", DataType::Utf8, true),
        ("reading", DataType::FixedSizeBinary(16), true),
        ("device", DataType::Utf8, true),
        ("metric", DataType::Utf8, true),
        ("value", DataType::Float64, true),
        ("unit", DataType::Utf8, true),
        ("at", time(), true),
        ("stamped_at", time(), true),
        ("received_at", time(), true),
        ("clock", DataType::Utf8, true),
        ("typed", DataType::Boolean, true),
        ("test", DataType::Boolean, true),
        ("value_pb", DataType::Binary, false),
    ])
}

/// `raw/vigil.windows`.
pub fn windows_schema() -> SchemaRef {
    schema(&[
        ("partition", DataType::UInt32, false),
        ("offset", DataType::Int64, false),
        ("arrived_at", time(), false),
        ("cause_offset", DataType::Int64, false),
        ("cause_ordinal", DataType::UInt32, false),
        ("patient", DataType::Utf8, false),
        ("metric", DataType::Utf8, false),
        ("start", time(), false),
        ("end", time(), false),
        ("revision", DataType::UInt32, false),
        ("count", DataType::UInt64, false),
        ("sum", DataType::Float64, false),
        ("min", DataType::Float64, false),
        ("max", DataType::Float64, false),
        ("last", DataType::Float64, false),
    ])
}

/// `raw/vigil.alerts`: transitions; `value_pb` is the record itself, evidence included.
pub fn alerts_schema() -> SchemaRef {
    schema(&[
        ("partition", DataType::UInt32, false),
        ("offset", DataType::Int64, false),
        ("arrived_at", time(), false),
        ("cause_offset", DataType::Int64, false),
        ("cause_ordinal", DataType::UInt32, false),
        ("kind", DataType::Utf8, false),
        ("alert", DataType::FixedSizeBinary(16), false),
        ("patient", DataType::Utf8, false),
        ("rule", DataType::Utf8, false),
        ("rule_version", DataType::UInt64, false),
        ("priority", DataType::Utf8, false),
        ("at", time(), false),
        ("since", time(), false),
        ("heard_at", time(), false),
        ("late", DataType::Boolean, false),
        ("value_pb", DataType::Binary, false),
    ])
}
