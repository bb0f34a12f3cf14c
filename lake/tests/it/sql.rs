//! SQL over a version: right, read-only, and never longer or larger than it may be.

use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use lake::{AsOf, Limits, QueryError, Shape, Writer, manifest, query};
use schemas::{Input, Metric, Micros};

use crate::{Ward, reading, start, void};

/// 40 readings of two patients on two days, one of them voided.
fn ward() -> Ward {
    let mut ward = Ward::default();
    for minute in 0..40 {
        let at = start() + Micros::minutes(minute * 60);
        let one = reading(if minute % 2 == 0 { "ada" } else { "bob" }, Metric::Spo2, at, 90.0 + (minute % 8) as f64);
        ward.arrives(at, Input::Reading(one.clone()));
        if minute == 7 {
            ward.arrives(at, Input::Void(void(&one, None)));
        }
    }
    ward.archive();
    ward.compact();
    ward
}

async fn answer(ward: &Ward, sql: &str, limits: Limits) -> Result<Vec<RecordBatch>, QueryError> {
    let manifest = manifest::open(&ward.lake(), &AsOf::Newest, None).unwrap();
    let mut answer = query(&ward.lake(), &manifest, sql, None, limits).await?;
    let mut pieces = Vec::new();
    while let Some(piece) = answer.next().await? {
        pieces.push(piece);
    }
    Ok(pieces)
}

#[tokio::test]
async fn what_stands_in_the_tables_is_answered() {
    let ward = ward();
    let sql = "SELECT patient, count(*) AS n, avg(value) AS mean FROM readings WHERE date >= DATE '2020-01-01' GROUP BY patient ORDER BY patient";
    let rows = answer(&ward, sql, Limits::default()).await.unwrap();
    let rows = arrow::compute::concat_batches(&rows[0].schema(), &rows).unwrap();
    let counts = rows.column(1).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(counts, [20, 19], "the voided one is not counted");
    assert!((rows.column(2).as_primitive::<Float64Type>().value(0) - 93.0).abs() < 1e-9);
    let empty = answer(&ward, "SELECT count(*) FROM episodes", Limits::default()).await.unwrap();
    assert_eq!(empty[0].column(0).as_primitive::<Int64Type>().value(0), 0, "a table without a file is there, and empty");
    assert!(answer(&ward, "SELECT * FROM current_windows", Limits::default()).await.is_ok());
}

/// Whatever writes, reads another file, or changes a setting is refused, and nothing is changed.
#[tokio::test]
async fn nothing_but_a_query_is_done() {
    let ward = ward();
    let outside = ward.folder.path().join("outside.csv");
    let copy = format!("COPY (SELECT 1) TO '{}'", outside.display());
    let foreign = format!("CREATE EXTERNAL TABLE other STORED AS PARQUET LOCATION '{}'", ward.folder.path().display());
    let writes = [
        "INSERT INTO readings SELECT * FROM readings",
        "CREATE TABLE x AS SELECT 1",
        "DROP TABLE readings",
        "SET datafusion.execution.batch_size = 1",
        &copy,
        &foreign,
    ];
    for sql in writes {
        let error = answer(&ward, sql, Limits::default()).await.map(drop).unwrap_err();
        assert!(matches!(error, QueryError::Writes(_)), "{sql}: {error}");
        assert!(error.to_string().contains("read-only"), "{error}");
    }
    assert!(!outside.exists());
    assert!(matches!(answer(&ward, "SELECT * FROM '/etc/passwd'", Limits::default()).await, Err(QueryError::Sql(_))));
    let error = answer(&ward, "SELECT valu FROM readings", Limits::default()).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("valu"), "{error}");
    let error = answer(&ward, "SELECT 1 FROM reading", Limits::default()).await.map(drop).unwrap_err().to_string();
    assert!(error.starts_with("table 'reading' not found: the tables are readings, "), "{error}");
    assert_eq!(ward.verified().findings, []);
}

/// 64,000,000 pairs of pairs: the mutant that waits for its threads never comes back.
#[tokio::test]
async fn what_joins_for_ever_is_stopped() {
    let ward = ward();
    let began = Instant::now();
    let numbers = "(SELECT value FROM generate_series(1, 600))";
    let sql = format!("SELECT count(*) FROM {numbers} a, {numbers} b, {numbers} c, {numbers} d WHERE a.value + b.value + c.value + d.value = 3");
    let error = answer(&ward, &sql, Limits { time: Duration::from_millis(300), ..Limits::default() }).await.map(drop).unwrap_err();
    assert!(matches!(error, QueryError::Time(_)), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let all = "SELECT a.value FROM readings a, readings b, readings c";
    assert!(matches!(answer(&ward, all, Limits { rows: 1000, ..Limits::default() }).await, Err(QueryError::Rows(1000))));
    let large = "SELECT a.at, b.at, c.at, count(*) FROM readings a, readings b, readings c, readings d GROUP BY 1, 2, 3 ORDER BY 4";
    let error = answer(&ward, large, Limits { memory: 1 << 20, ..Limits::default() }).await.map(drop).unwrap_err();
    assert!(matches!(error, QueryError::Memory { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_is_written_as_the_same_rows_in_every_shape() {
    let ward = ward();
    let rows = answer(&ward, "SELECT patient, at, value FROM readings ORDER BY at", Limits::default()).await.unwrap();
    let mut lines = Vec::new();
    for shape in [Shape::Csv, Shape::Ndjson] {
        let mut out = Vec::new();
        let mut writer = Writer::new(shape, &mut out, rows[0].schema()).unwrap();
        rows.iter().for_each(|piece| writer.write(piece).unwrap());
        writer.end().unwrap();
        lines.push(String::from_utf8(out).unwrap().lines().count());
    }
    assert_eq!(lines, [40, 39], "a header and 39 rows; 39 objects");
    let mut out = Vec::new();
    let mut writer = Writer::new(Shape::Parquet, &mut out, rows[0].schema()).unwrap();
    rows.iter().for_each(|piece| writer.write(piece).unwrap());
    writer.end().unwrap();
    let back = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes::Bytes::from(out), 1000).unwrap();
    let back: Vec<RecordBatch> = back.collect::<Result<_, _>>().unwrap();
    let back = arrow::compute::concat_batches(&back[0].schema(), &back).unwrap();
    let rows = arrow::compute::concat_batches(&rows[0].schema(), &rows).unwrap();
    assert_eq!(back.columns(), rows.columns());
}
