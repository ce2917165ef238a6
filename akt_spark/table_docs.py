"""The reference of all tables and views, from their declarations in ``schemas/``.

``python -m akt_spark.table_docs`` prints it (``docs/tables.md`` is that output).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from akt_spark.lake import SCHEMAS, Table, declared_tables
from akt_spark.pipeline import STAGES

HEADER = """# Tables and views

Generated from `schemas/`: `python -m akt_spark.table_docs > docs/tables.md`. All tables are Delta tables under
`lake.root`, in the folder `schema/name`; all times are UTC; `make sql` opens `spark-sql` with these names.
"""


@dataclass(frozen=True)
class Column:
    """One column, as its line in the declaration gives it."""

    name: str
    kind: str
    nullable: bool
    comment: str


def columns(table: Table) -> list[Column]:
    """The declared columns of a table."""
    lines = re.findall(r"^  (\w+) (.+?)( NOT NULL)? COMMENT '(.*)',?$", table.sql, flags=re.MULTILINE)
    return [Column(name, kind, not required, comment.replace("''", "'")) for name, kind, required, comment in lines]


def reference() -> str:
    """The whole page, as Markdown."""
    tables = [_table(Table.load(name)) for name in declared_tables()]
    views = [_view(path) for path in sorted((SCHEMAS / "views").glob("*.sql"))]
    return "\n".join([HEADER, _contents(), *tables, "# Views\n", *views])


def _contents() -> str:
    lines = []
    for schema, names in groupby(declared_tables(), key=lambda name: name.split(".")[0]):
        links = ", ".join(f"[{name.split('.')[1]}](#{name.replace('.', '')})" for name in names)
        lines.append(f"- **{schema}**: {links}")
    return "\n".join(lines) + "\n"


def _table(table: Table) -> str:
    written = f"`jobs/{table.writer}.py`" if any(stage.name == table.writer for stage in STAGES) else table.writer
    readers = [f"`{stage.name}`" for stage in STAGES if table.name in stage.reads]
    facts = [f"Key: {', '.join(f'`{key}`' for key in table.key)}.", f"Written by {written}."]
    if readers:
        facts.append(f"Read by {', '.join(readers)}.")
    rows = [_row(column) for column in columns(table)]
    lines = [f"## {table.name}", "", f"{_comment(table.sql)}.", "", " ".join(facts), ""]
    lines += ["| column | type | |", "|---|---|---|", *rows, ""]
    if constraints := list(_constraints(table.sql)):
        lines += ["Every commit is checked: " + "; ".join(f"`{rule}`" for rule in constraints) + ".", ""]
    return "\n".join(lines)


def _row(column: Column) -> str:
    kind = f"`{column.kind}`{' or null' if column.nullable else ''}"
    return f"| `{column.name}` | {kind} | {column.comment.replace('|', '&#124;')} |"


def _view(path: Path) -> str:
    sql = path.read_text()
    return f"## {path.stem}\n\n{_comment(sql)}.\n\n```sql\n{sql[sql.index('SELECT') :].strip()}\n```\n"


def _comment(sql: str) -> str:
    """What a table or view says of itself."""
    return re.findall(r"^COMMENT '(.*)'", sql, flags=re.MULTILINE)[0].replace("''", "'")


def _constraints(sql: str) -> Iterator[str]:
    for quoted in re.findall(r"'delta\.constraints\.\w+' = (\".*?\"|'.*?')", sql):
        yield quoted[1:-1]


if __name__ == "__main__":
    print(reference(), end="")
