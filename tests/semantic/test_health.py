from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from akt_spark.config import HealthConfig, HealthGateConfig
from akt_spark.errors import HealthGateError
from akt_spark.semantic.clusters import cluster_measures, code_measures
from akt_spark.semantic.health import Health, check
from akt_spark.semantic.neighbours import nearest, neighbour_measures
from akt_spark.semantic.purity import purity_measures, shuffled

IDS = {"a": [0, 0], "b": [0, 0], "c": [0, 1], "d": [1, 1], "e": [1, 2], "f": [2, 2]}
ROLES = {"a": "teacher", "b": "student", "c": "student", "d": "none", "e": "student", "f": "teacher"}


@pytest.fixture(scope="module")
def ids(spark: SparkSession) -> DataFrame:
    rows = [(name, "-".join(map(str, codes)), codes) for name, codes in IDS.items()]
    return spark.createDataFrame(rows, "id STRING, sid STRING, codes ARRAY<INT>").cache()


def values(measures) -> dict[tuple[str, int], float | None]:
    return {(metric, level): value for metric, level, value in measures}


def test_coverage_and_perplexity_by_hand(ids: DataFrame) -> None:
    found = values(code_measures(ids, (4, 3)))
    assert found["coverage", 1] == 3 / 4  # codes 0, 1 and 2 of four
    assert found["coverage", 2] == 1.0
    entropy = -(3 / 6 * log(3 / 6) + 2 / 6 * log(2 / 6) + 1 / 6 * log(1 / 6))
    assert found["perplexity", 1] == pytest.approx(exp(entropy))
    assert found["perplexity", 2] == pytest.approx(3.0)  # two ids a code


def test_clusters_by_hand(spark: SparkSession, ids: DataFrame) -> None:
    roles = spark.createDataFrame(list(ROLES.items()), "id STRING, role STRING")
    found = values(cluster_measures(ids, roles, 2))
    assert found["collision", 1] == pytest.approx(1 - 3 / 6)
    assert found["collision", 2] == found["collision", 0] == pytest.approx(1 - 5 / 6)  # only a and b are equal
    assert found["largest_bucket", 1] == pytest.approx(3 / 6)
    assert found["largest_bucket", 0] == pytest.approx(2 / 6)
    assert found["median_cluster_size", 1] == 2  # 3, 2, 1
    assert found["median_cluster_size", 2] == 1  # 2, 1, 1, 1, 1
    assert found["head_coverage", 1] == pytest.approx(2 / 3)  # b and c sit with teacher a, e has none
    assert found["head_coverage", 2] == pytest.approx(1 / 3)  # only b


def test_head_coverage_is_undefined_without_students(spark: SparkSession, ids: DataFrame) -> None:
    roles = spark.createDataFrame([(name, "teacher") for name in IDS], "id STRING, role STRING")
    assert values(cluster_measures(ids, roles, 2))["head_coverage", 1] is None


def test_purity_by_hand(spark: SparkSession, ids: DataFrame) -> None:
    categories = {"a": "drama", "b": "drama", "c": "comedy", "d": "drama", "e": "comedy"}  # f has none
    table = spark.createDataFrame(list(categories.items()), "id STRING, category STRING")
    found = values(purity_measures(ids, table, 2))
    assert found["purity", 1] == pytest.approx(3 / 5)  # two dramas of cluster 0, one of cluster 1
    assert found["purity", 2] == pytest.approx(1.0)


def test_the_random_control_keeps_the_clusters_sizes_and_loses_their_meaning(spark: SparkSession) -> None:
    rows = [(f"i{n}", str(n % 10), f"category {n % 10}") for n in range(1000)]
    table = spark.createDataFrame(rows, "id STRING, sid STRING, category STRING")
    control = shuffled(table)
    assert sorted(row["count"] for row in control.groupBy("sid").count().collect()) == [100] * 10
    assert control.select("id").distinct().count() == 1000
    found = values(purity_measures(table.drop("category"), table.drop("sid"), 1))
    assert found["purity", 1] == 1.0
    assert found["purity_random", 1] < 0.25  # chance: 0.1 and the luck of the largest


def test_nearest_by_hand() -> None:
    vectors = np.array([[1, 0], [2, 0.1], [0, 1], [0.1, 3], [-1, 0]], np.float32)
    assert nearest(vectors, queries=3, k=1).tolist() == [[1], [0], [3]]


def test_neighbour_agreement_is_one_where_codes_follow_directions(spark: SparkSession) -> None:
    random = np.random.default_rng(0)
    rows = [(f"i{n}", [n % 4, 0], (np.eye(4)[n % 4] + 0.1 * random.normal(size=4)).tolist()) for n in range(200)]
    coded = spark.createDataFrame(rows, "id STRING, codes ARRAY<INT>, vector ARRAY<FLOAT>")
    config = HealthConfig(neighbours=5, neighbour_queries=50, neighbour_pool=150)
    found = values(neighbour_measures(coded, config))
    assert found["neighbour_agreement", 1] == 1.0
    assert 0.1 < found["neighbour_agreement_random", 1] < 0.45


HEALTHY = {
    ("coverage", 1): 1.0,
    ("coverage", 2): 0.95,
    ("head_coverage", 1): 0.99,
    ("largest_bucket", 0): 0.01,
    ("unexplained_variance", 0): 0.4,
}


def test_a_healthy_codebook_passes_its_gate() -> None:
    check(Health(HEALTHY), HealthGateConfig(), "item", "new", None)
    check(Health(HEALTHY | {("head_coverage", 1): None}), HealthGateConfig(), "item", "new", None)  # no students


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (("coverage", 2), 0.5, r"coverage of level 2 is 0\.500, below semantic\.item_gate\.min_coverage 0\.9: lower"),
        (("head_coverage", 1), 0.2, r"head coverage of level 1 is 0\.200, below .*min_head_coverage 0\.9: lower"),
        (("largest_bucket", 0), 0.7, r"holds 0\.700 of all, above .*max_largest_bucket 0\.2: look"),
        (("unexplained_variance", 0), 0.9, r"variance is 0\.900, above .*max_unexplained_variance 0\.85: raise"),
    ],
)
def test_the_gate_names_metric_value_threshold_and_remedy(key: tuple[str, int], value: float, said: str) -> None:
    with pytest.raises(HealthGateError, match=said) as caught:
        check(Health(HEALTHY | {key: value}), HealthGateConfig(), "item", "new", "20240101-aaaa")
    assert caught.value.exit_code == 3
    assert "20240101-aaaa stays published" in str(caught.value)
