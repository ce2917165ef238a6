"""Writes small hand-made tables: what a row does not say is filled with something harmless."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from pyspark.sql.types import ArrayType, StructField

from akt_spark.lake import Lake

HARMLESS = {
    "string": "x",
    "int": 0,
    "bigint": 0,
    "double": 0.0,
    "float": 0.0,
    "date": date(2024, 1, 30),
    "timestamp": datetime(2024, 1, 31),
}


def write(lake: Lake, table: str, rows: list[dict[str, Any]]) -> None:
    """Replaces a table by these rows."""
    schema = lake.schema(table)
    filled = [tuple(row[f.name] if f.name in row else _harmless(f) for f in schema.fields) for row in rows]
    lake.overwrite(table, lake.spark.createDataFrame(filled, schema))


def _harmless(field: StructField) -> Any:
    if field.nullable:
        return None
    if isinstance(field.dataType, ArrayType):
        return []
    return HARMLESS[field.dataType.simpleString()]
