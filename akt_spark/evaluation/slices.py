"""Slices of the test period. Who is head, tail or cold was frozen at the end of the training period."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from akt_spark.features.planted import KEPT

PLANTED = {
    f"planted_{entity}_{kept}": f"{entity} that keeps {kept} training exposures of the more than {max(KEPT)} it had"
    for entity in ("item", "user")
    for kept in KEPT
} | {f"planted_{entity}_control": f"{entity} that could have been cut so and was not" for entity in ("item", "user")}
# Tail includes cold: a cold id has zero training impressions, which is below every threshold.
SLICES = {
    "all": "every test impression",
    "head": "head item and head user (the paper's head)",
    "tail": "tail item or tail user (the paper's tail)",
    "item_head": "head item",
    "item_tail": "tail item, cold ones included",
    "item_cold": "item without impressions in training",
    "user_head": "head user",
    "user_tail": "tail user, cold ones included",
    "user_cold": "user without impressions in training",
    "item_head_user_tail": "head item, tail user",
    "item_tail_user_head": "tail item, head user",
    "item_tail_user_tail": "tail item, tail user",
    "with_history": "the user has clicked before",
    "without_history": "the user has no click before",
    "cluster_teacher": "a teacher shares the item's first code",
    "cluster_no_teacher": "no semantic ID, or no teacher shares its first code",
    **PLANTED,
}


def sample_slices(samples: DataFrame, items: DataFrame, users: DataFrame) -> DataFrame:
    """The slices that every test sample belongs to (method.md 8; head and tail: 5.3).

    Args:
        samples: training.samples.
        items: training.items: segment, role and codes at the end of the training period.
        users: training.users.

    Returns:
        sample_id, slices ARRAY<STRING> (keys of `SLICES` but `PLANTED`), one row a test sample. Ids that the snapshots
        lack are cold.
    """
    item_side = _cluster_has_teacher(items).select(
        F.col("idx").alias("item_idx"), F.col("segment").alias("item_segment"), "cluster_has_teacher"
    )
    user_side = users.select(F.col("idx").alias("user_idx"), F.col("segment").alias("user_segment"))
    joined = (
        samples.where(F.col("split") == "test")
        .join(item_side, on="item_idx", how="left")
        .join(user_side, on="user_idx", how="left")
    )
    names = F.array(*[F.when(holds, F.lit(name)) for name, holds in _conditions().items()])
    return joined.select("sample_id", F.array_compact(names).alias("slices"))


def _conditions() -> dict[str, Column]:
    item, user = (F.coalesce(F.col(f"{entity}_segment"), F.lit("cold")) for entity in ("item", "user"))
    item_head, user_head = item == "head", user == "head"
    history = F.col("history_length") > 0
    teacher = F.coalesce(F.col("cluster_has_teacher"), F.lit(False))
    conditions = {
        "all": F.lit(True),
        "head": item_head & user_head,
        "tail": ~(item_head & user_head),
        "item_head": item_head,
        "item_tail": ~item_head,
        "item_cold": item == "cold",
        "user_head": user_head,
        "user_tail": ~user_head,
        "user_cold": user == "cold",
        "item_head_user_tail": item_head & ~user_head,
        "item_tail_user_head": ~item_head & user_head,
        "item_tail_user_tail": ~item_head & ~user_head,
        "with_history": history,
        "without_history": ~history,
        "cluster_teacher": teacher,
        "cluster_no_teacher": ~teacher,
    }
    return {name: conditions[name] for name in SLICES if name not in PLANTED}


def planted_slices(samples: DataFrame, items: DataFrame, users: DataFrame, planted: DataFrame) -> DataFrame:
    """The slices of the planted tail (features/planted.py): all test samples of an id that was cut, or is a control.

    Args:
        samples: training.samples.
        items: training.items.
        users: training.users.
        planted: bronze.planted.

    Returns:
        sample_id, slices ARRAY<STRING> (one key of `PLANTED`): no row, one, or one of its item and one of its user.
    """
    test = samples.where(F.col("split") == "test")
    kept = F.coalesce(F.col("kept").cast("string"), F.lit("control"))
    name = F.concat_ws("_", F.lit("planted"), "entity", kept)

    def side(entity: str, ids: DataFrame) -> DataFrame:
        chosen = planted.where(F.col("entity") == entity).select(F.col("id").alias(f"{entity}_id"), name.alias("name"))
        named = ids.join(chosen, on=f"{entity}_id", how="inner").select(F.col("idx").alias(f"{entity}_idx"), "name")
        return test.join(named, on=f"{entity}_idx", how="inner").select("sample_id", F.array("name").alias("slices"))

    return side("item", items).unionByName(side("user", users))


def _cluster_has_teacher(items: DataFrame) -> DataFrame:
    """Adds whether a teacher shares the first code: the shortest prefix to which the transfer backs off (4.3)."""
    coded = items.withColumn("first_code", F.get("codes", F.lit(0)))
    taught = (
        coded.where((F.col("role") == "teacher") & F.col("first_code").isNotNull())
        .select("first_code", F.lit(True).alias("cluster_has_teacher"))
        .distinct()
    )
    return coded.join(taught, on="first_code", how="left")
