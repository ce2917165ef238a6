"""The tables and views of a lake as DuckDB statements, for analysts without Spark.

A table is a view on the Parquet files of its newest version: run the statements again to see a later one. The views are
those of ``schemas/views``, translated by sqlglot.
"""

from __future__ import annotations

from pathlib import Path

import sqlglot
from deltalake import DeltaTable
from sqlglot import exp

from akt_spark.errors import AktError
from akt_spark.lake import SCHEMAS


def table_statement(name: str, folder: Path) -> str:
    """The statement that names a Delta table; without rows it is an empty view of the declared columns.

    Raises:
        AktError: when plain Parquet readers would see wrong rows.
    """
    table = DeltaTable(folder)
    unsafe = {"deletionVectors", "columnMapping"} & set(table.protocol().reader_features or [])
    if unsafe:
        raise AktError(f"{name} uses {', '.join(sorted(unsafe))}, which only a Delta reader understands: ask Spark")
    files = ", ".join(f"'{file}'" for file in sorted(table.file_uris()))
    rows = f"SELECT * FROM read_parquet([{files}])" if files else _no_rows(name)
    return f"CREATE OR REPLACE VIEW {name} AS {rows}"


def view_statement(sql: str) -> str:
    """A view of ``schemas/views`` in DuckDB's dialect."""
    return sqlglot.transpile(sql, read="databricks", write="duckdb")[0]


def _no_rows(name: str) -> str:
    declared = sqlglot.parse_one((SCHEMAS / f"{name}.sql").read_text(), read="databricks").find(exp.Schema)
    columns = [column for column in declared.expressions if isinstance(column, exp.ColumnDef)]
    nulls = ", ".join(f"CAST(NULL AS {column.kind.sql('duckdb')}) AS {column.name}" for column in columns)
    return f"SELECT {nulls} WHERE false"
