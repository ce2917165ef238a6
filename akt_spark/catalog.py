"""Names the tables and views of a lake for a SQL session.

``python -m akt_spark.catalog --lake FOLDER`` prints the statements that ``make sql`` gives to ``spark-sql``, and with
``--dialect duckdb`` those that the ``duckdb`` command takes.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from akt_spark.duckdb_catalog import table_statement, view_statement
from akt_spark.errors import AktError
from akt_spark.lake import SCHEMAS, declared_tables

_CREATE = "CREATE TABLE IF NOT EXISTS"


def catalog_statements(root: str, dialect: str = "spark") -> Iterator[str]:
    """SQL that registers every table that exists under a local lake root, then the views over them.

    Args:
        root: folder of the lake.
        dialect: ``spark`` or ``duckdb``.

    Raises:
        AktError: when there is no lake at ``root``.
    """
    folder = Path(root).absolute()
    tables = {name: folder.joinpath(*name.split(".")) for name in declared_tables()}
    present = {name: path for name, path in tables.items() if (path / "_delta_log").is_dir()}
    if not present:
        raise AktError(f"no tables under {folder}: run jobs/nightly.py first, or name another folder with --lake")
    for schema in sorted({name.split(".")[0] for name in tables}):
        yield f"CREATE SCHEMA IF NOT EXISTS {schema}"
    for name, path in present.items():
        yield table_statement(name, path) if dialect == "duckdb" else f"{_CREATE} {name} USING DELTA LOCATION '{path}'"
    for view in sorted((SCHEMAS / "views").glob("*.sql")):
        sql = view.read_text().strip()
        if all(table in present for table in tables if re.search(rf"\b{table}\b", sql)):
            yield view_statement(sql) if dialect == "duckdb" else sql


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="catalog", description=__doc__)
    parser.add_argument("--lake", required=True, help="lake root, for example .demo/lake")
    parser.add_argument("--dialect", default="spark", choices=["spark", "duckdb"], help="whose SQL to print")
    try:
        arguments = parser.parse_args()
        print(";\n".join(catalog_statements(arguments.lake, arguments.dialect)) + ";")
    except AktError as error:
        parser.exit(error.exit_code, f"{error}\n")
