"""What analysts see by name: every table of a lake, the views over them, and the README's queries on them."""

import pytest
import readme

from akt_spark.catalog import catalog_statements
from akt_spark.errors import AktError
from akt_spark.lake import SCHEMAS, declared_tables


def test_every_view_and_every_query_of_the_readme_can_be_run(spark, lake, named):
    for table in declared_tables():
        lake.register(table)
        spark.sql(f"DROP TABLE {table}")  # the catalogue has to name it again
    named(lake.root)
    views = [path.stem for path in (SCHEMAS / "views").glob("*.sql")]
    assert views
    for view in views:
        assert spark.table(view).count() == 0, view
    queries = readme.blocks("sql")
    assert queries
    for query in queries:
        assert spark.sql(query).collect() == []


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(AktError, match=r"no tables under .*: run jobs/nightly.py first"):
        list(catalog_statements(str(tmp_path)))
