"""Look-up tables from Parquet."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from akt_spark.errors import DataError
from akt_spark.ranker.lookup import STUDENT, TEACHER
from akt_spark.training.lookup import load_lookup
from training.conftest import lists, lookup_table


def write(folder: Path, *tables: pa.Table) -> list[str]:
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet")
    return [f"file://{folder}/{number}.parquet" for number in range(len(tables))]


def test_rows_stand_at_their_index_whatever_the_order_of_the_files(tmp_path) -> None:
    table = lookup_table(10, "item")
    lookup = load_lookup(write(tmp_path, table.slice(5), table.slice(0, 5)), "item")
    assert len(lookup) == 10
    for row in table.to_pylist():
        at = row["idx"]
        assert lookup.attributes[at].tolist() == row["attributes"]
        assert lookup.category[at] == row["category"]
        assert lookup.impressions[at] == row["impressions"]
        assert lookup.role[at] == (TEACHER if row["role"] == "teacher" else STUDENT)
        assert lookup.activity[at].tolist() == row["activity"]
        assert lookup.codes[at].tolist() == (row["codes"] or [-1, -1])
        assert lookup.vector[at].tolist() == (row["vector"] or [0, 0, 0])


def test_padding_and_missing_indices_are_neutral(tmp_path) -> None:
    table = lookup_table(6, "user").filter(pa.array([True, False, True, True, True]))  # no idx 2
    lookup = load_lookup(write(tmp_path, table), "user")
    for row in (0, 2):
        assert lookup.codes[row].tolist() == [-1, -1]
        assert lookup.role[row] == lookup.impressions[row] == lookup.attributes[row].sum() == 0


def test_no_semantic_ids_at_all_still_give_one_level(tmp_path) -> None:
    table = lookup_table(4, "item")
    empty = pa.nulls(len(table), pa.list_(pa.int32()))
    table = table.set_column(table.column_names.index("codes"), "codes", empty)
    assert load_lookup(write(tmp_path, table), "item").codes.tolist() == [[-1]] * 4


def test_codes_of_other_codebooks_are_found_by_name(tmp_path) -> None:
    table = lookup_table(6, "item").drop_columns("other_codes")
    maps = [{"kmeans": [7, 8, 9], "category": [1]}, None, {"category": [4]}, {"kmeans": [1, 2, 3]}, {}]
    column = pa.array([m and list(m.items()) for m in maps], pa.map_(pa.string(), pa.list_(pa.int32())))
    table = table.append_column("other_codes", column)
    other = load_lookup(write(tmp_path, table.slice(2), table.slice(0, 2)), "item").other_codes
    assert {name: codes.tolist() for name, codes in other.items()} == {
        "kmeans": [[-1] * 3, [7, 8, 9], [-1] * 3, [-1] * 3, [1, 2, 3], [-1] * 3],
        "category": [[-1], [1], [-1], [4], [-1], [-1]],
    }


def test_lists_of_different_lengths_are_refused(tmp_path) -> None:
    table, other = lookup_table(4, "item"), lookup_table(4, "item")
    wide = lists(np.zeros((3, 3), dtype=np.int32))
    other = other.set_column(other.column_names.index("attributes"), "attributes", wide)
    with pytest.raises(DataError, match=r"training.items.attributes.*\[2, 3\]"):
        load_lookup(write(tmp_path, table, other), "item")
