"""What analysts see by name: every table of a lake, the views over them, and the README's queries on them."""

import re
from pathlib import Path

import pytest

from akt_spark.catalog import catalog_statements
from akt_spark.errors import AktError
from akt_spark.lake import SCHEMAS, declared_tables

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_every_view_and_every_query_of_the_readme_can_be_run(spark, lake, named):
    for table in declared_tables():
        lake.register(table)
        spark.sql(f"DROP TABLE {table}")  # the catalogue has to name it again
    named(lake.root)
    views = [path.stem for path in (SCHEMAS / "views").glob("*.sql")]
    assert views
    for view in views:
        assert spark.table(view).count() == 0, view
    queries = re.findall(r"^```sql\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert queries
    for query in queries:
        assert spark.sql(query).collect() == []


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(AktError, match=r"no tables under .*: run jobs/nightly.py first"):
        list(catalog_statements(str(tmp_path)))
