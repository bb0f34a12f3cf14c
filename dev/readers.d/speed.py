"""The questions of `cargo bench -p lake`, to DuckDB and polars, of the same files."""

import datetime
import json
import pathlib
import sys
import time

import duckdb
import polars

folder = pathlib.Path(sys.argv[1])
manifest = json.loads(sorted((folder / "curated/manifests").glob("*.json"))[-1].read_text())


def files(table):
    return [str(folder / file["name"]) for file in manifest["tables"][table]["files"]]


def source(table):
    return "read_parquet(" + json.dumps(files(table)).replace('"', "'") + ")"


db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
DUCK = {
    "one patient, one day": f"SELECT at, metric, value FROM {source('readings')} WHERE patient = 'patient-00042' AND date = DATE '2026-01-05' ORDER BY at",
    "hourly mean of a ward": f"SELECT date_trunc('hour', r.at) AS hour, avg(r.value) AS mean FROM {source('readings')} r JOIN {source('patients')} p ON p.patient = r.patient "
    "WHERE p.ward = 'ward-3' AND r.metric = 'spo2' GROUP BY 1 ORDER BY 1",
    "mean of everything": f"SELECT metric, count(*) AS n, avg(value) AS mean, max(value) AS most FROM {source('readings')} GROUP BY metric ORDER BY metric",
}
p = polars
POLARS = {
    "one patient, one day": lambda: p.scan_parquet(files("readings"))
    .filter((p.col("patient") == "patient-00042") & (p.col("date") == datetime.date(2026, 1, 5)))
    .select("at", "metric", "value")
    .sort("at")
    .collect(),
    "hourly mean of a ward": lambda: p.scan_parquet(files("readings"))
    .filter(p.col("metric") == "spo2")
    .join(p.scan_parquet(files("patients")).filter(p.col("ward") == "ward-3"), on="patient", how="semi")
    .group_by(p.col("at").dt.truncate("1h"))
    .agg(p.col("value").mean())
    .sort("at")
    .collect(),
    "mean of everything": lambda: p.scan_parquet(files("readings"))
    .group_by("metric")
    .agg(p.len().alias("n"), p.col("value").mean().alias("mean"), p.col("value").max().alias("most"))
    .sort("metric")
    .collect(engine="streaming"),
}
for what, sql in DUCK.items():
    for name, ask in (("DuckDB", lambda: db.execute(sql).fetchall()), ("polars", POLARS[what])):
        times, rows = [], 0
        for _ in range(5):
            began = time.perf_counter()
            rows = len(ask())
            times.append((time.perf_counter() - began) * 1e3)
        times.sort()
        print(f"{what}, {name}: {rows} rows, min/median/max {times[0]:.1f}/{times[2]:.1f}/{times[-1]:.1f} ms", flush=True)
