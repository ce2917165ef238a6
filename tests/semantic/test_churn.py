from __future__ import annotations

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from sklearn.metrics import adjusted_rand_score

from akt_spark.semantic.churn import changed_ids, churn_measures
from akt_spark.semantic.measures import OWN, RANDOM


def rows(spark: SparkSession, ids: dict[str, str], content: str = "") -> DataFrame:
    """id, sid, codes, content_hash; ids named in ``content`` have another content."""
    values = [(i, sid, [int(c) for c in sid.split("-")], f"h{i in content.split()}") for i, sid in ids.items()]
    return spark.createDataFrame(values, "id string, sid string, codes array<int>, content_hash string")


def test_every_changed_id_has_its_depth_and_its_reason(spark: SparkSession) -> None:
    old = rows(spark, {"a": "1-2-3", "b": "1-2-3", "c": "0-0-0", "d": "4-4-4", "gone": "1-1-1"})
    new = rows(spark, {"a": "1-2-3", "b": "1-2-4", "c": "2-0-0", "d": "4-5-4", "new": "1-1-1"}, content="d")
    found = {row["id"]: tuple(row)[1:] for row in changed_ids(old, new, same_encoder=True).collect()}
    assert found == {
        "b": ("1-2-3", "1-2-4", 3, "moved cell"),
        "c": ("0-0-0", "2-0-0", 1, "moved cell"),
        "d": ("4-4-4", "4-5-4", 2, "content changed"),
    }
    by_encoder = {row["id"]: row["reason"] for row in changed_ids(old, new, same_encoder=False).collect()}
    assert by_encoder == {"b": "encoder changed", "c": "encoder changed", "d": "content changed"}


def test_agreement_equals_scikit_learn(spark: SparkSession) -> None:
    rng = np.random.default_rng(0)
    old = rng.integers(0, 3, (200, 2))
    new = np.where(rng.random((200, 2)) < 0.7, old, rng.integers(0, 3, (200, 2)))
    ids = [{f"i{n}": "-".join(map(str, codes)) for n, codes in enumerate(table)} for table in (old, new)]
    found = list(churn_measures(rows(spark, ids[0]), rows(spark, ids[1]), 2))
    measures = {(m.metric, m.level): m.value for m in found if m.control == OWN}
    pairs = [table[:, 0] * 3 + table[:, 1] for table in (old, new)]
    assert measures["churn", 1] == pytest.approx((old[:, 0] != new[:, 0]).mean())
    assert measures["churn", 2] == pytest.approx((pairs[0] != pairs[1]).mean())
    assert measures["adjusted_rand", 1] == pytest.approx(adjusted_rand_score(old[:, 0], new[:, 0]))
    assert measures["adjusted_rand", 2] == pytest.approx(adjusted_rand_score(*pairs))
    by_chance = {(m.metric, m.level): m.value for m in found if m.control == RANDOM}
    for level, (before, after) in enumerate(((old[:, 0], new[:, 0]), pairs), start=1):
        assert by_chance["churn", level] == pytest.approx((before[:, None] != after).mean())
        assert by_chance["adjusted_rand", level] == 0


def test_other_names_for_the_same_clusters_agree_wholly(spark: SparkSession) -> None:
    old, new = rows(spark, {"a": "0", "b": "0", "c": "1"}), rows(spark, {"a": "1", "b": "1", "c": "0"})
    own = {m.metric: m.value for m in churn_measures(old, new, 1) if m.control == OWN}
    assert own == {"churn": 1.0, "adjusted_rand": 1.0}
