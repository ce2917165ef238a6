from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from akt_spark.semantic.assign import assign
from akt_spark.semantic.fit import fit, sample
from akt_spark.semantic.kinds import load_quantizer
from akt_spark.semantic.measures import OWN
from akt_spark.semantic.reconstruction import reconstruction_measures
from akt_spark.semantic.rqvae import RqVae
from akt_spark.semantic.vector_files import located

from .conftest import SMALL

SCHEMA = "id STRING, content_hash STRING, vector ARRAY<FLOAT>, label STRING"


def table(spark: SparkSession, vectors: np.ndarray):
    rows = [(f"i{n:05d}", f"h{n}", vector.tolist(), f"category {n % 3}") for n, vector in enumerate(vectors)]
    return spark.createDataFrame(rows, SCHEMA)


def stored(rows: DataFrame, folder: Path, **options: object) -> DataFrame:
    """The rows as a table of files holds them."""
    path = str(folder / "vectors, 100% of them")
    rows.write.options(**options).parquet(path)
    return located(rows.sparkSession, [path])


def roles(spark: SparkSession):
    return spark.createDataFrame([("i00000", "teacher"), ("i00001", "student")], "id STRING, role STRING")


def test_spark_assigns_what_one_process_assigns(
    spark: SparkSession, fitted: RqVae, vectors: np.ndarray, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "model")
    rows = stored(table(spark, vectors[:300]).repartition(3), tmp_path)
    assigned = assign(rows, str(tmp_path / "model")).orderBy("id").collect()
    expected = fitted.encode(vectors[:300])
    assert [row["codes"] for row in assigned] == expected.codes.tolist()
    assert [np.float32(row["distance"]) for row in assigned] == expected.distance.tolist()
    first, codes = assigned[0], expected.codes[0].tolist()
    assert (first["id"], first["content_hash"]) == ("i00000", "h0")
    assert first["sid"] == "-".join(map(str, codes))
    assert first["offset_codes"] == [codes[0], 16 + codes[1], 24 + codes[2]]  # sizes 16, 8, 8


def test_vectors_are_read_from_any_rows_of_any_row_group(
    spark: SparkSession, fitted: RqVae, vectors: np.ndarray, tmp_path: Path
) -> None:
    """Files of many row groups, rows between with another length or none, and only some of the rows wanted."""
    fitted.save(tmp_path / "model")
    given = table(spark, vectors)
    others = given.select("id", "content_hash", F.slice("vector", 1, 5).alias("vector"), "label").limit(700)
    others = others.withColumns({"id": F.concat(F.lit("short"), "id")})
    missing = others.withColumns({"id": F.concat(F.lit("no"), "id"), "vector": F.lit(None).cast("array<float>")})
    mixed = given.unionByName(others).unionByName(missing).repartition(3)
    rows = stored(mixed, tmp_path, **{"parquet.block.size": 50_000, "parquet.page.size": 1_000})
    groups = [pq.ParquetFile(file).num_row_groups for file in (tmp_path / "vectors, 100% of them").glob("*.parquet")]
    assert max(groups) > 1
    wanted = rows.where(F.col("id").startswith("i") & (F.crc32("id") % 3 != 0)).orderBy(F.xxhash64("id"))
    assigned = {row["id"]: row["codes"] for row in assign(wanted, str(tmp_path / "model")).collect()}
    expected = {f"i{n:05d}": codes for n, codes in enumerate(fitted.encode(vectors).codes.tolist())}
    assert len(vectors) / 2 < len(assigned) < len(vectors)
    assert assigned == {name: expected[name] for name in assigned}


def test_unexplained_variance_is_that_of_numpy(
    spark: SparkSession, fitted: RqVae, vectors: np.ndarray, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "model")
    rows = stored(table(spark, vectors[:300]).repartition(3), tmp_path)
    coded = assign(rows, str(tmp_path / "model")).select("id", "codes").join(rows, on="id")
    labelled = coded.select("codes", F.col("codes").alias("random"), F.col("label").alias("leaf"), "vector")
    found = reconstruction_measures(labelled, str(tmp_path / "model"), 3)
    own = {measure.level: measure.value for measure in found if measure.control == OWN}
    x, codes = fitted.normalise(vectors[:300]), fitted.encode(vectors[:300]).codes
    for level in (1, 2, 3):
        quantised = sum(fitted.codebooks[n][codes[:, n]] for n in range(level))
        error = np.square(x - fitted._mlp("decoder", quantised)).sum()
        assert np.isclose(own[level], error / np.square(x - x.mean(axis=0)).sum(), rtol=1e-5)
    assert own[0] == own[3] < own[2] < own[1]


def test_the_sample_is_bounded_and_does_not_depend_on_partitions(spark: SparkSession, vectors: np.ndarray) -> None:
    rows, known = table(spark, vectors), roles(spark)
    some, again = sample(rows.repartition(3), known, 500), sample(rows.coalesce(1), known, 500)
    assert 400 < len(some.vectors) < 600
    assert np.array_equal(some.vectors, again.vectors)
    everything = sample(rows.repartition(3), known, 5000)
    assert np.array_equal(everything.vectors, vectors)  # all of them, in the order of their ids
    assert everything.labels[:4].tolist() == ["category 0", "category 1", "category 2", "category 0"]
    assert everything.roles[:3].tolist() == ["teacher", "student", None]
    assert everything.population == some.population == len(vectors)


def test_the_same_vectors_give_the_same_version(spark: SparkSession, vectors: np.ndarray, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"warmup_steps": 5, "steps": 10})
    rows, day = table(spark, vectors[:300]), date(2024, 1, 31)
    one = fit(rows.repartition(2), roles(spark), "rev", config, day, tmp_path)
    two = fit(rows.repartition(3), roles(spark), "rev", config, day, tmp_path)
    assert one == two
    assert one.version.startswith("20240131-")
    assert load_quantizer(one.path).sizes == (16, 8, 8)
    assert fit(rows, roles(spark), "other embeddings", config, day, tmp_path).version != one.version
