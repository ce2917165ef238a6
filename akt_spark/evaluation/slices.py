"""Slices of the test period. Who is head, tail or cold was frozen at the end of the training period."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from akt_spark.features.planted import KEPT
from akt_spark.features.segments import impression_counts

DECILES = 10
TEACHERS = {"1_3": (1, 3), "4_15": (4, 15), "16_63": (16, 63), "64_255": (64, 255), "256_up": (256, None)}


@dataclass(frozen=True)
class Family:
    """Slices that answer one question. p-values are adjusted within a family: slices of one cost the others nothing.

    Attributes:
        slices: name -> who is in it.
        axis: of a family whose slices are steps of one quantity, what it is; its slices are named by family and step.
        none: the slice, of another family, of those that have nothing of this quantity.
    """

    slices: dict[str, str]
    axis: str | None = None
    none: str | None = None

    @property
    def places(self) -> list[str]:
        """Its slices, after the one of those that have nothing."""
        return [*([self.none] if self.none else []), *self.slices]


def _deciles(entity: str) -> Family:
    """Tenths of the ids, not of the rows: a tenth of the rows would hold the whole tail. The last one has most rows."""
    slices = {
        f"{entity}_decile_{number:02d}": f"{entity} in tenth {number} of those with impressions in training, from the "
        "least shown; equal counts share one"
        for number in range(1, DECILES + 1)
    }
    return Family(slices, f"decile of {entity}s by impressions in training", f"{entity}_cold")


def _teacher_counts() -> Family:
    named = {name: f"{low} to {high}" if high else f"{low} or more" for name, (low, high) in TEACHERS.items()}
    slices = {
        f"cluster_teachers_{name}": f"{count} teachers share the item's first code" for name, count in named.items()
    }
    return Family(slices, "teachers that share the item's first code", "cluster_no_teacher")


def _planted(entity: str) -> Family:
    """Ids of the planted tail (features/planted.py) by what they keep, and those that could have been cut."""
    cut = {
        f"planted_{entity}_{kept}": f"{entity} that keeps {kept} training exposures of the more than {max(KEPT)} it had"
        for kept in KEPT
    }
    control = {f"planted_{entity}_control": f"{entity} that could have been cut so and was not"}
    return Family(cut | control, f"training exposures that planted {entity}s keep")


# Tail includes cold: a cold id has zero training impressions, which is below every threshold.
FAMILIES = {
    "paper": Family(
        {
            "all": "every test impression",
            "head": "head item and head user (the paper's head)",
            "tail": "tail item or tail user (the paper's tail)",
        }
    ),
    "breakdown": Family(
        {
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
        }
    ),
    "item_decile": _deciles("item"),
    "user_decile": _deciles("user"),
    "cluster_teachers": _teacher_counts(),
    "planted_item": _planted("item"),
    "planted_user": _planted("user"),
}
SLICES = {name: who for family in FAMILIES.values() for name, who in family.slices.items()}
PLANTED = {*FAMILIES["planted_item"].slices, *FAMILIES["planted_user"].slices}
FAMILY_OF = {name: family for family, members in FAMILIES.items() for name in members.slices}


def step(slice_name: str) -> str:
    """What a slice is called beside the others of its family: item_decile_03 is 3, cluster_teachers_256_up is 256+."""
    words = slice_name.removeprefix(f"{FAMILY_OF[slice_name]}_").split("_")
    return "-".join(word.lstrip("0") or "0" for word in words).replace("-up", "+")


def sample_slices(samples: DataFrame, items: DataFrame, users: DataFrame) -> DataFrame:
    """The slices that every test sample belongs to (method.md 8; head and tail: 5.3).

    Args:
        samples: training.samples.
        items: training.items: impressions, segment, role and codes at the end of the training period.
        users: training.users: impressions and segment likewise.

    Returns:
        sample_id, slices ARRAY<STRING> (keys of `SLICES` but `PLANTED`), one row a test sample. Ids that the snapshots
        lack are cold.
    """
    item_side = _with_teachers(_with_decile(items)).select(
        F.col("idx").alias("item_idx"),
        F.col("segment").alias("item_segment"),
        F.col("decile").alias("item_decile"),
        "teachers",
    )
    user_side = _with_decile(users).select(
        F.col("idx").alias("user_idx"), F.col("segment").alias("user_segment"), F.col("decile").alias("user_decile")
    )
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
    teachers = F.coalesce(F.col("teachers"), F.lit(0))
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
        "cluster_teacher": teachers > 0,
        "cluster_no_teacher": teachers == 0,
    }
    for entity in ("item", "user"):
        deciles = range(1, DECILES + 1)
        conditions |= {f"{entity}_decile_{number:02d}": F.col(f"{entity}_decile") == number for number in deciles}
    for name, (low, high) in TEACHERS.items():
        conditions[f"cluster_teachers_{name}"] = teachers.between(low, high) if high else teachers >= low
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


def _with_decile(ids: DataFrame) -> DataFrame:
    """Adds ``decile``, 1 to 10: the tenth of the ids with impressions that an id is in; null without impressions.

    Ids with equal counts are where the middle of them is, so no tie is broken by chance, and a tie wider than a tenth
    leaves tenths beside it empty.
    """
    twice_middle, total = 2 * F.col("at_most") - F.col("ids"), F.col("total")
    tenth = F.floor(DECILES * twice_middle / (2 * total)) + 1
    deciles = impression_counts(ids).select("impressions", tenth.cast("int").alias("decile"))
    return ids.join(F.broadcast(deciles), on="impressions", how="left")


def _with_teachers(items: DataFrame) -> DataFrame:
    """Adds how many teachers share the first code, which is the shortest prefix to which the transfer backs off (4.3).

    A teacher counts itself; null where there are none.
    """
    coded = items.withColumn("first_code", F.get("codes", F.lit(0)))
    taught = (
        coded.where((F.col("role") == "teacher") & F.col("first_code").isNotNull())
        .groupBy("first_code")
        .agg(F.count("*").alias("teachers"))
    )
    return coded.join(taught, on="first_code", how="left")
