from __future__ import annotations

from collections.abc import Iterable
from math import exp, log

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from sklearn.metrics import normalized_mutual_info_score

from akt_spark.config import HealthConfig, HealthGateConfig
from akt_spark.errors import HealthGateError
from akt_spark.semantic.clusters import cells, cluster_measures, code_measures, cost_measures
from akt_spark.semantic.co_occurrence import co_occurrence_measures
from akt_spark.semantic.health import Health, check
from akt_spark.semantic.labelled import labelled_ids, shuffled
from akt_spark.semantic.measures import CATEGORY, OWN, RANDOM, Measure
from akt_spark.semantic.neighbours import neighbour_measures
from akt_spark.semantic.purity import purity_measures

CODES = {"a": [0, 0], "b": [0, 0], "c": [0, 1], "d": [1, 1], "e": [1, 2], "f": [2, 2]}
ROLES = {"a": "teacher", "b": "student", "c": "student", "d": "none", "e": "student", "f": "teacher"}
PATHS = {"a": ["film", "drama"], "b": ["film", "drama"], "c": ["film", "comedy"], "d": ["film", "drama"], "e": ["book"]}


@pytest.fixture(scope="module")
def labelled(spark: SparkSession) -> DataFrame:
    """Six ids; f has no category."""
    ids = spark.createDataFrame(list(CODES.items()), "id STRING, codes ARRAY<INT>")
    roles = spark.createDataFrame(list(ROLES.items()), "id STRING, role STRING")
    paths = spark.createDataFrame(list(PATHS.items()), "id STRING, path ARRAY<STRING>")
    return labelled_ids(ids, roles, paths).cache()


def values(measures: Iterable[Measure]) -> dict[str, dict[tuple[str, int], float | None]]:
    """Measures by control."""
    found = {control: {} for control in (OWN, RANDOM, CATEGORY)}
    for metric, level, value, control in measures:
        found[control][metric, level] = value
    return found


def entropy(*counts: int) -> float:
    return -sum(n / sum(counts) * log(n / sum(counts)) for n in counts)


def test_coverage_and_perplexity_by_hand(labelled: DataFrame) -> None:
    found = values(code_measures(cells(labelled, 2), (4, 3)))
    assert found[OWN]["coverage", 1] == 3 / 4  # codes 0, 1 and 2 of four
    assert found[OWN]["coverage", 2] == 1.0
    assert found[OWN]["perplexity", 1] == pytest.approx(exp(entropy(3, 2, 1)))
    assert found[OWN]["perplexity", 2] == pytest.approx(3.0)  # two ids a code
    assert found[RANDOM]["perplexity", 1] == pytest.approx(found[OWN]["perplexity", 1])
    assert found[CATEGORY]["perplexity", 1] == pytest.approx(exp(entropy(4, 1, 1)))  # film, book, none
    assert ("coverage", 1) not in found[CATEGORY]


def test_clusters_by_hand(labelled: DataFrame) -> None:
    found = values(cluster_measures(cells(labelled, 2)))
    own = found[OWN]
    assert (own["clusters", 1], own["clusters", 2]) == (3, 5)
    assert own["collision", 1] == pytest.approx(1 - 3 / 6)
    assert own["collision", 2] == own["collision", 0] == pytest.approx(1 - 5 / 6)  # only a and b are equal
    assert own["aliasing", 1] == pytest.approx(5 / 6)  # all but f share their first code
    assert own["aliasing", 2] == own["aliasing", 0] == pytest.approx(2 / 6)
    assert own["largest_bucket", 1] == pytest.approx(3 / 6)
    assert own["largest_bucket", 0] == pytest.approx(2 / 6)
    assert own["median_cluster_size", 1] == 2  # 3, 2, 1
    assert own["median_cluster_size", 2] == 1  # 2, 1, 1, 1, 1
    assert own["head_coverage", 1] == pytest.approx(2 / 3)  # b and c sit with teacher a, e has none
    assert own["head_coverage", 2] == pytest.approx(1 / 3)  # only b
    assert own["capacity_head", 1] == 1.0  # a and f are apart
    assert own["capacity_tail", 1] == pytest.approx(2 / 3)  # b and c share one
    assert own["capacity_mid", 2] == 1.0
    assert own["conditional_entropy", 1] == pytest.approx(entropy(3, 2, 1))
    assert own["conditional_entropy", 2] == pytest.approx(entropy(2, 1, 1, 1, 1) - entropy(3, 2, 1))


def test_every_measure_of_clusters_stands_beside_both_controls(labelled: DataFrame) -> None:
    found = values(cluster_measures(cells(labelled, 2)))
    assert found[OWN].keys() == found[RANDOM].keys() == found[CATEGORY].keys()
    sizes = ("clusters", "collision", "aliasing", "largest_bucket", "median_cluster_size", "conditional_entropy")
    assert {place: found[RANDOM][place] for place in found[RANDOM] if place[0] in sizes} == {
        place: pytest.approx(value) for place, value in found[OWN].items() if place[0] in sizes
    }
    assert found[CATEGORY]["clusters", 2] == 4  # drama, comedy, book, none
    assert found[CATEGORY]["aliasing", 2] == pytest.approx(3 / 6)  # a, b and d are dramas


def test_the_cost_of_a_prefix_is_how_many_next_codes_it_has(labelled: DataFrame) -> None:
    found = values(cost_measures(cells(labelled, 2)))
    assert (found[OWN]["fan_out", 1], found[OWN]["fan_out_max", 1]) == (3, 3)
    assert found[OWN]["fan_out", 2] == pytest.approx((2 + 2 + 1) / 3)
    assert found[OWN]["fan_out_max", 2] == 2
    assert found[CATEGORY]["fan_out", 2] == pytest.approx(
        (2 + 1 + 1) / 3
    )  # film has two; book and none only themselves


def test_head_coverage_is_undefined_without_students(spark: SparkSession) -> None:
    ids = spark.createDataFrame(list(CODES.items()), "id STRING, codes ARRAY<INT>")
    roles = spark.createDataFrame([(name, "teacher") for name in CODES], "id STRING, role STRING")
    found = values(cluster_measures(cells(labelled_ids(ids, roles, None), 2)))
    assert found[OWN]["head_coverage", 1] is None
    assert found[CATEGORY] == {}  # users have no categories


def test_purity_and_mutual_information_agree_with_scikit_learn(labelled: DataFrame) -> None:
    found = values(purity_measures(cells(labelled, 2)))
    assert found[OWN]["purity", 1] == pytest.approx(3 / 5)  # two dramas of cluster 0, one of cluster 1; f has none
    assert found[OWN]["purity", 2] == pytest.approx(1.0)
    leaves = [PATHS[name][-1] for name in PATHS]
    for level in (1, 2):
        prefixes = [str(CODES[name][:level]) for name in PATHS]
        assert found[OWN]["nmi", level] == pytest.approx(normalized_mutual_info_score(leaves, prefixes))
    assert found[CATEGORY]["purity", 2] == found[CATEGORY]["nmi", 2] == pytest.approx(1.0)  # it is the category


def test_co_occurrence_recall_by_hand(spark: SparkSession, labelled: DataFrame) -> None:
    pairs = spark.createDataFrame(
        [("a", "b"), ("a", "c"), ("a", "d"), ("e", "gone")], "item_id STRING, positive_id STRING"
    )
    found = values(co_occurrence_measures(labelled, pairs, 2))
    assert found[OWN]["co_occurrence_recall", 1] == pytest.approx(2 / 3)  # the item that is gone has no ID
    assert found[OWN]["co_occurrence_recall", 2] == pytest.approx(1 / 3)
    assert found[CATEGORY]["co_occurrence_recall", 1] == 1.0  # all films
    assert found[CATEGORY]["co_occurrence_recall", 2] == pytest.approx(2 / 3)  # c is a comedy


def test_the_random_control_keeps_the_clusters_sizes_and_loses_their_meaning(spark: SparkSession) -> None:
    rows = [(f"i{n}", [n % 10], ["all", f"category {n % 10}"]) for n in range(1000)]
    table = spark.createDataFrame(rows, "id STRING, codes ARRAY<INT>, path ARRAY<STRING>")
    control = shuffled(table.select("id", "codes"))
    assert sorted(row["count"] for row in control.groupBy("codes").count().collect()) == [100] * 10
    assert control.select("id").distinct().count() == 1000
    roles = table.select("id", F.lit("none").alias("role"))
    found = values(purity_measures(cells(labelled_ids(table.drop("path"), roles, table.drop("codes")), 1)))
    assert found[OWN]["purity", 1] == 1.0
    assert found[RANDOM]["purity", 1] < 0.25  # chance: 0.1 and the luck of the largest


def test_neighbour_agreement_is_one_where_codes_follow_directions(spark: SparkSession) -> None:
    random = np.random.default_rng(0)
    rows = [(f"i{n}", [n % 4, 0], (np.eye(4)[n % 4] + 0.1 * random.normal(size=4)).tolist()) for n in range(200)]
    coded = spark.createDataFrame(rows, "id STRING, codes ARRAY<INT>, vector ARRAY<FLOAT>")
    roles = coded.select("id", F.lit("none").alias("role"))
    labelled = labelled_ids(coded, roles, None).join(coded.select("id", "vector"), on="id")
    found = values(neighbour_measures(labelled, HealthConfig(neighbours=5, neighbour_queries=50), 2))
    assert found[OWN]["neighbour_agreement", 1] == found[OWN]["neighbour_agreement", 2] == 1.0
    assert 0.1 < found[RANDOM]["neighbour_agreement", 1] < 0.45
    assert found[CATEGORY] == {}


def test_neighbours_are_looked_for_among_all_ids_whatever_the_batches(spark: SparkSession) -> None:
    random = np.random.default_rng(1)
    vectors, codes = random.normal(size=(300, 8)).astype(np.float32), random.integers(0, 3, (300, 2))
    paths = [["a"] if n % 2 else ["a", f"b{n % 3}"] for n in range(300)]
    rows = [(f"i{n:03d}", codes[n].tolist(), vectors[n].tolist(), paths[n]) for n in range(300)]
    coded = spark.createDataFrame(rows, "id STRING, codes ARRAY<INT>, vector ARRAY<FLOAT>, path ARRAY<STRING>")
    table = coded.withColumns({"random": F.col("codes"), "leaf": F.lit(None), "role": F.lit("none")}).repartition(3)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "7")
    try:
        found = values(neighbour_measures(table, HealthConfig(neighbours=4, neighbour_queries=1000), 2))
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    near = np.argsort(-similarity, axis=1)[:, :4]
    for level in (1, 2):
        same = (codes[near, :level] == codes[:, None, :level]).all(axis=2)
        assert found[OWN]["neighbour_agreement", level] == pytest.approx(same.mean())
        equal = [paths[n][:level] == paths[m][:level] for n in range(300) for m in near[n]]
        assert found[CATEGORY]["neighbour_agreement", level] == pytest.approx(np.mean(equal))


HEALTHY = {
    ("coverage", 1, OWN): 1.0,
    ("coverage", 2, OWN): 0.95,
    ("head_coverage", 1, OWN): 0.99,
    ("largest_bucket", 0, OWN): 0.01,
    ("unexplained_variance", 0, OWN): 0.4,
}


def test_a_healthy_codebook_passes_its_gate() -> None:
    check(Health(HEALTHY), HealthGateConfig(), "item", "new", None)
    check(Health(HEALTHY | {("head_coverage", 1, OWN): None}), HealthGateConfig(), "item", "new", None)  # no students


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            ("coverage", 2, OWN),
            0.5,
            r"coverage of level 2 is 0\.500, below semantic\.item_gate\.min_coverage 0\.9: lower",
        ),
        (("head_coverage", 1, OWN), 0.2, r"head coverage of level 1 is 0\.200, below .*min_head_coverage 0\.9: lower"),
        (("largest_bucket", 0, OWN), 0.7, r"holds 0\.700 of all, above .*max_largest_bucket 0\.2: look"),
        (("unexplained_variance", 0, OWN), 0.9, r"variance is 0\.900, above .*max_unexplained_variance 0\.85: raise"),
    ],
)
def test_the_gate_names_metric_value_threshold_and_remedy(key: tuple[str, int, str], value: float, said: str) -> None:
    with pytest.raises(HealthGateError, match=said) as caught:
        check(Health(HEALTHY | {key: value}), HealthGateConfig(), "item", "new", "20240101-aaaa")
    assert caught.value.exit_code == 3
    assert "20240101-aaaa stays published" in str(caught.value)
