"""Clusters (ids that share a prefix) of the codebook and its controls: their use, sizes, roles and cost.

Four of the six dimensions of SIDInspector (arXiv 2606.10375), in our reading: utilisation (coverage, perplexity),
aliasing by prefix depth, capacity by head, mid and tail, and cost. Co-occurrence and churn have modules of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.semantic.labelled import controls_of
from akt_spark.semantic.measures import OWN, Measure

PLACE = ("control", "level")
SEPARATOR = " > "  # of category names; codes are numbers
SEGMENTS = {"head": "teacher", "mid": "none", "tail": "student"}  # of activity, by role (method.md 5.3)


@dataclass(frozen=True)
class Cells:
    """Counts of ids, the one pass over them that measures of clusters are worked out from.

    Attributes:
        counts: control, level, parent, prefix, code, role, leaf, n.
        levels: prefix lengths.
    """

    counts: DataFrame
    levels: int


def cells(labelled: DataFrame, levels: int) -> Cells:
    """Counts ids by control, prefix, role and leaf category.

    Args:
        labelled: see `labelled_ids`.
        levels: prefix lengths; a shorter category path stands for itself at greater lengths.
    """
    level = F.col("level")
    prefix, parent = (F.array_join(F.slice("assigned", F.lit(1), n), SEPARATOR) for n in (level, level - 1))
    each = controls_of(labelled).withColumn("level", F.explode(F.sequence(F.lit(1), F.lit(levels))))
    named = each.select(
        *PLACE,
        parent.alias("parent"),
        prefix.alias("prefix"),
        F.element_at("assigned", F.least(level, F.size("assigned"))).alias("code"),
        "role",
        "leaf",
    )
    keys = (*PLACE, "parent", "prefix", "code", "role", "leaf")
    return Cells(named.groupBy(*keys).agg(F.count("*").alias("n")), levels)


def code_measures(found: Cells, sizes: tuple[int, ...]) -> Iterator[Measure]:
    """Use of every level's codes: coverage used / K_l, and perplexity exp(-sum p log p) (method.md 4.4).

    Controls have no coverage: permuted IDs use what the IDs use, and a catalogue has no unused category.
    """
    use = found.counts.groupBy(*PLACE, "code").agg(F.sum("n").alias("n"))
    rows = use.groupBy(*PLACE).agg(F.count("*").alias("used"), F.exp(entropy("n")).alias("perplexity"))
    for row in rows.collect():
        level, control = row["level"], row["control"]
        if control == OWN:
            yield Measure("coverage", level, row["used"] / sizes[level - 1])
        yield Measure("perplexity", level, row["perplexity"], control)


def cluster_measures(found: Cells) -> Iterator[Measure]:
    """Clusters of every prefix length.

    clusters: how many, which is the rows that a table of cluster embeddings needs; collision: 1 - clusters / ids
    (method.md 4.4: reported, not minimised); aliasing: share of ids that share their prefix with another;
    largest_bucket: share of ids in the largest cluster; median_cluster_size: ids in the median cluster; head_coverage:
    share of students whose cluster holds a teacher (method.md 4.3), null without students; capacity_head, _mid, _tail:
    clusters that hold a teacher, a teacher (an id between, an id between; a student, a student): 1 where each has its
    own; conditional_entropy: H(code | prefix before it) in nats. Collision,
    aliasing and largest bucket of the whole ID also stand at level 0.
    """
    of_role = {
        role: F.coalesce(F.sum(F.when(F.col("role") == role, F.col("n"))), F.lit(0)) for role in SEGMENTS.values()
    }
    clusters = found.counts.groupBy(*PLACE, "prefix").agg(
        F.sum("n").alias("size"), *(count.alias(role) for role, count in of_role.items())
    )
    shared = F.sum(F.when(F.col("size") > 1, F.col("size")).otherwise(0))
    taught = F.sum(F.when(F.col("teacher") > 0, F.col("student")).otherwise(0))
    capacity = {
        f"capacity_{segment}": F.try_divide(F.count_if(F.col(role) > 0), F.sum(role))
        for segment, role in SEGMENTS.items()
    }
    measures = {
        "clusters": F.count("*").cast("double"),
        "collision": 1 - F.count("*") / F.sum("size"),
        "aliasing": shared / F.sum("size"),
        "largest_bucket": F.max("size") / F.sum("size"),
        "median_cluster_size": F.median("size"),
        "head_coverage": F.try_divide(taught, F.sum("student")),
        **capacity,
    }
    rows = clusters.groupBy(*PLACE).agg(
        *(value.alias(name) for name, value in measures.items()), entropy("size").alias("h")
    )
    entropies: dict[str, float] = {}  # of the prefixes one code shorter
    for row in rows.orderBy(*PLACE).collect():
        level, control = row["level"], row["control"]
        for name in measures:
            yield Measure(name, level, row[name], control)
            if level == found.levels and name in ("collision", "aliasing", "largest_bucket"):
                yield Measure(name, 0, row[name], control)
        yield Measure("conditional_entropy", level, row["h"] - entropies.get(control, 0.0), control)
        entropies[control] = row["h"]


def cost_measures(found: Cells) -> Iterator[Measure]:
    """What reading the IDs costs: fan_out, how many next codes a prefix has on average, and fan_out_max, at most."""
    children = found.counts.groupBy(*PLACE, "parent").agg(F.count_distinct("prefix").alias("n"))
    rows = children.groupBy(*PLACE).agg(F.avg("n").alias("fan_out"), F.max("n").cast("double").alias("fan_out_max"))
    for row in rows.collect():
        for name in ("fan_out", "fan_out_max"):
            yield Measure(name, row["level"], row[name], row["control"])


def entropy(counts: str) -> F.Column:
    """Aggregate: entropy in nats of the distribution that a column of counts gives."""
    total = F.sum(counts)
    return F.log(total) - F.sum(F.col(counts) * F.log(counts)) / total
