"""Pinned files of Delta tables."""

import shutil
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from akt_spark.errors import DataError, MissingInput
from akt_spark.training.reader import ordered_batches
from akt_spark.training.samples import pinned_splits
from training.conftest import sample_table, write_samples

SAMPLES = "training.samples"


def numbers(blocks) -> list[float]:
    return sorted(n for batch in ordered_batches(blocks, 8) for n in batch["user_activity"][:, 0].tolist())


def test_only_the_rows_of_the_pinned_version_are_read(lake) -> None:
    """An overwritten file, a later file and an orphan lie in the same folder."""
    write_samples(lake, ("train", 5, 0))
    write_samples(lake, ("train", 9, 100), ("train", 4, 200), mode="overwrite")
    version = lake.version(SAMPLES)
    write_samples(lake, ("train", 6, 300))
    folder = Path(lake.path(SAMPLES))
    shutil.copy(next(folder.glob("*.parquet")), folder / "part-orphan.parquet")
    train = pinned_splits(lake, version)["train"]
    assert sorted(block.rows for block in train.blocks) == [4, 9]
    assert train.rows == 13
    assert numbers(train.blocks) == [*range(100, 109), *range(200, 204)]


def test_splits_have_their_own_blocks_and_counts(lake) -> None:
    write_samples(lake, ("train", 5, 0), ("validation", 5, 100), ("test", 5, 200))
    splits = pinned_splits(lake, lake.version(SAMPLES))
    labels = sample_table(5, 100)["label"].to_numpy()
    assert (splits["validation"].rows, splits["validation"].clicks) == (5, int(labels.sum()))
    assert numbers(splits["test"].blocks) == [200, 201, 202, 203, 204]


def test_a_file_that_mixes_splits_is_refused(lake) -> None:
    lake.register(SAMPLES)
    mixed = lake.spark.createDataFrame(sample_table(6, 0, "train")).withColumn("day", F.lit(date(2024, 1, 1)))
    mixed = mixed.withColumn("split", F.when(F.col("sample_id") < "s00003", "train").otherwise("test"))
    mixed = mixed.select(lake.schema(SAMPLES).names).coalesce(1)
    mixed.write.format("delta").mode("append").save(lake.path(SAMPLES))
    with pytest.raises(DataError, match=r"mixes splits.*build_samples"):
        pinned_splits(lake, lake.version(SAMPLES))


@pytest.mark.parametrize(
    "property_name, feature",
    [("delta.enableDeletionVectors", "deletionVectors"), ("delta.columnMapping.mode", "columnMapping")],
)
def test_tables_that_parquet_readers_misread_are_refused(lake, property_name, feature) -> None:
    lake.register(SAMPLES)
    value = "name" if feature == "columnMapping" else "true"
    lake.spark.sql(f"ALTER TABLE {SAMPLES} SET TBLPROPERTIES ('{property_name}' = '{value}')")
    for pin in (lambda version: pinned_splits(lake, version), lambda version: lake.files(SAMPLES, version)):
        with pytest.raises(DataError, match=feature):
            pin(lake.version(SAMPLES))


def test_missing_and_empty_samples_name_the_job(lake) -> None:
    with pytest.raises(MissingInput, match=r"jobs/build_samples.py"):
        pinned_splits(lake, 0)
    lake.register(SAMPLES)
    with pytest.raises(MissingInput, match="is empty"):
        pinned_splits(lake, 0)
    with pytest.raises(MissingInput, match="is empty"):
        lake.files(SAMPLES, 0)
