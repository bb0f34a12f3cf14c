"""What different readers make of the same files, column by column."""

import json
import math
import os
import subprocess
import sys

VIGIL = os.environ["VIGIL"]
arguments = [argument for argument in sys.argv[1:] if argument != "--spark"]
SPARK = "--spark" in sys.argv


def vigil(*command):
    return subprocess.run([VIGIL, *command, *arguments], check=True, capture_output=True, text=True).stdout


def lines(*command):
    return [json.loads(line) for line in vigil(*command).splitlines()]


def shape(name):
    """The same word for the same type in every reader."""
    name = str(name).lower()
    if name in ("utf8", "string", "large_string", "varchar", "str", "stringtype()"):
        return "text"
    if name in ("float64", "double", "doubletype()"):
        return "double"
    if name in ("int64", "bigint", "longtype()"):
        return "int64"
    if name in ("int32", "integer", "integertype()"):
        return "int32"
    if name in ("boolean", "bool", "booleantype()"):
        return "bool"
    if name in ("date32", "date32[day]", "date", "datetype()"):
        return "date"
    if name.startswith(("timestamp", "datetime")):
        return "time, µs, UTC" if ("us" in name or "µs" in name or "with time zone" in name or name == "timestamptype()") else name
    if name.startswith(("fixedsizebinary", "fixed_size_binary")) or name in ("blob", "binary", "binarytype()", "binary[pyarrow]"):
        return "bytes"
    return name


def number(value):
    return None if value is None else int(value) if isinstance(value, bool) else value


def of_vigil(table, columns):
    kinds = {row["column"]: shape(row["type"]) for row in lines("sql", "--describe", table)}
    parts = ["count(*) AS rows"]
    for column in columns:
        quoted = f'"{column}"'
        parts.append(f'count(*) - count({quoted}) AS "{column}.nulls"')
        if kinds[column] in ("double", "int64", "int32"):
            parts += [f'min({quoted}) AS "{column}.least"', f'max({quoted}) AS "{column}.greatest"', f'sum(CAST({quoted} AS DOUBLE)) AS "{column}.sum"']
        elif kinds[column].startswith("time"):
            parts += [f'min(arrow_cast({quoted}, \'Int64\')) AS "{column}.least"', f'max(arrow_cast({quoted}, \'Int64\')) AS "{column}.greatest"']
        elif kinds[column] in ("text", "date"):
            parts += [f'min(CAST({quoted} AS VARCHAR)) AS "{column}.least"', f'max(CAST({quoted} AS VARCHAR)) AS "{column}.greatest"']
    return kinds, lines("sql", f"SELECT {', '.join(parts)} FROM {table}")[0]


def of_arrow(files, columns):
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    data = ds.dataset(files, format="parquet").to_table()
    kinds, found = {field.name: shape(field.type) for field in data.schema}, {"rows": data.num_rows}
    for column in columns:
        values = data.column(column)
        found[f"{column}.nulls"] = values.null_count
        if kinds[column] in ("double", "int64", "int32"):
            found |= dict(zip((f"{column}.least", f"{column}.greatest"), pc.min_max(values).as_py().values()))
            found[f"{column}.sum"] = pc.sum(values.cast("float64")).as_py()
        elif kinds[column].startswith("time"):
            found |= dict(zip((f"{column}.least", f"{column}.greatest"), pc.min_max(values.cast("int64")).as_py().values()))
        elif kinds[column] in ("text", "date"):
            found |= dict(zip((f"{column}.least", f"{column}.greatest"), pc.min_max(values.cast("string")).as_py().values()))
    return kinds, found


def of_polars(files, columns):
    import polars

    data = polars.read_parquet(files)
    kinds, found = {name: shape(kind) for name, kind in data.schema.items()}, {"rows": data.height}
    for name, kind in data.schema.items():
        if isinstance(kind, polars.Datetime):
            kinds[name] = "time, µs, UTC" if (kind.time_unit, kind.time_zone) == ("us", "UTC") else str(kind)
    for column in columns:
        values = data[column]
        found[f"{column}.nulls"] = values.null_count()
        if kinds[column] in ("double", "int64", "int32"):
            found |= {f"{column}.least": values.min(), f"{column}.greatest": values.max(), f"{column}.sum": values.cast(polars.Float64).sum() if values.count() else None}
        elif kinds[column].startswith("time"):
            values = values.cast(polars.Int64)
            found |= {f"{column}.least": values.min(), f"{column}.greatest": values.max()}
        elif kinds[column] in ("text", "date"):
            values = values.cast(polars.String)
            found |= {f"{column}.least": values.min(), f"{column}.greatest": values.max()}
    return kinds, found


def in_sql(kinds, columns, ask, quote):
    parts = ["count(*) AS rows_"]
    names = ["rows"]
    for column in columns:
        quoted = f"{quote}{column}{quote}"
        parts.append(f"count(*) - count({quoted})")
        names.append(f"{column}.nulls")
        kind = kinds[column]
        if kind in ("double", "int64", "int32"):
            parts += [f"min({quoted})", f"max({quoted})", f"sum(CAST({quoted} AS DOUBLE))"]
            names += [f"{column}.least", f"{column}.greatest", f"{column}.sum"]
        elif kind.startswith("time"):
            micros = "epoch_us" if quote == '"' else "unix_micros"
            parts += [f"{micros}(min({quoted}))", f"{micros}(max({quoted}))"]
            names += [f"{column}.least", f"{column}.greatest"]
        elif kind in ("text", "date"):
            text = "VARCHAR" if quote == '"' else "STRING"
            parts += [f"min(CAST({quoted} AS {text}))", f"max(CAST({quoted} AS {text}))"]
            names += [f"{column}.least", f"{column}.greatest"]
    return dict(zip(names, ask(", ".join(parts))))


def of_duckdb(files, columns):
    import duckdb

    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    source = "read_parquet(" + json.dumps(files).replace('"', "'") + ")"
    kinds = {row[0]: shape(row[1]) for row in db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    return kinds, in_sql(kinds, columns, lambda parts: db.execute(f"SELECT {parts} FROM {source}").fetchone(), '"')


session = None


def of_spark(files, columns):
    global session
    if session is None:
        from pyspark.sql import SparkSession

        session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.sql.session.timeZone", "UTC").getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
    data = session.read.parquet(*files)
    data.createOrReplaceTempView("t")
    kinds = {field.name: shape(field.dataType) for field in data.schema.fields}
    return kinds, in_sql(kinds, columns, lambda parts: session.sql(f"SELECT {parts} FROM t").first(), "`")


def same(one, other):
    one, other = number(one), number(other)
    if isinstance(one, float) or isinstance(other, float):
        return one is not None and other is not None and math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other


READERS = {"pyarrow": of_arrow, "polars": of_polars, "duckdb": of_duckdb} | ({"spark": of_spark} if SPARK else {})
wrong = compared = 0
for table in [row["table"] for row in lines("lake", "tables")]:
    files = vigil("lake", "files", table).splitlines()
    columns = [row["column"] for row in lines("sql", "--describe", table)]
    kinds, expected = of_vigil(table, columns)
    for name, read in READERS.items():
        read_kinds, found = read(files, columns)
        compared += len(kinds) + len(expected)
        differ = [f"{column} is {read_kinds.get(column)}, not {kind}" for column, kind in kinds.items() if read_kinds.get(column) != kind]
        differ += [f"{what} is {found.get(what)}, not {value}" for what, value in expected.items() if not same(value, found.get(what))]
        # a column of nothing but NULLs is left out of vigil's answer
        differ += [f"{what} is {value}" for what, value in found.items() if what not in expected and value is not None]
        wrong += len(differ)
        print(f"{table:12} {name:8} {expected['rows']:>9} rows, {len(files):>3} files: {'; '.join(differ) or 'equal'}", flush=True)
print(f"{compared} comparisons, {wrong} differ")
sys.exit(1 if wrong else 0)
