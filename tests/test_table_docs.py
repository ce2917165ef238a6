"""The reference of tables is that of the declarations as they are."""

from pathlib import Path

from akt_spark.lake import Table, declared_tables
from akt_spark.table_docs import columns, reference

PAGE = Path(__file__).parent.parent / "docs/tables.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == reference(), "regenerate: python -m akt_spark.table_docs > docs/tables.md"


def test_every_column_of_every_table_is_explained():
    for name in declared_tables():
        sql = Table.load(name).sql
        body = sql[sql.index(" (\n") + 3 : sql.index("\n) USING DELTA")]
        assert len(columns(Table.load(name))) == len(body.splitlines()), name
        assert all(column.comment for column in columns(Table.load(name))), name
