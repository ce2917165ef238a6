"""Sampled negatives: live at the time, with the features of that time, by weight, and the same for the same seed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import date
from functools import reduce
from hashlib import md5

import pytest
from oracle import Oracle, differences
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from akt_spark.conf_file import load
from akt_spark.features.activity import ENTITIES, activity_log, daily_counts
from akt_spark.features.samples import labelled_events, sample_features

DS, LENGTH, NEGATIVES = date(2024, 1, 31), 5, 4
FIRST_SEEN = {"never shown": date(2024, 1, 5), "i1": date(2023, 12, 20), "next month": date(2024, 2, 20)}
MODES = ("uniform", "popularity")


def config(mode: str, seed: int = 1):
    keys = [f"negatives={mode}", f"negatives_per_positive={NEGATIVES}", "positive_events=[click, purchase]"]
    return load(None, [f"samples.{key}" for key in [*keys, f"seed={seed}"]] + [f"features.sequence_length={LENGTH}"])


@dataclass(frozen=True)
class World:
    """A log as events and as rows, and what the oracle says about it."""

    events: list
    rows: object
    logs: dict
    catalogue: object

    def labelled(self, mode: str, seed: int = 1):
        settings = config(mode, seed)
        return labelled_events(self.rows, self.logs["item"], self.catalogue, settings.samples, settings.features)

    def indices(self) -> dict[str, dict[str, int]]:
        items = sorted({e.item_id for e in self.events} | set(FIRST_SEEN))
        users = sorted({e.user_id for e in self.events})
        return {"item": {i: n for n, i in enumerate(items, 1)}, "user": {u: n for n, u in enumerate(users, 1)}}

    def oracle(self, mode: str) -> Oracle:
        indices = self.indices()
        return Oracle(self.events, indices["item"], indices["user"], config(mode), DS, FIRST_SEEN)

    @property
    def positives(self) -> dict:
        return {e.event_id: e for e in self.events if e.event_type in ("click", "purchase")}


@pytest.fixture(scope="module")
def world(spark, random_events, frame) -> World:
    events = [e for e in random_events(seed=4, count=2500, users=60, items=40) if e.event_time.date() <= DS]
    rows = frame(events).persist()
    logs = {entity: activity_log(daily_counts(rows, entity), entity).persist() for entity in ENTITIES}
    catalogue = spark.createDataFrame([*FIRST_SEEN.items(), ("i0", None)], "item_id string, first_seen date")
    yield World(events, rows, logs, catalogue)
    for frame in (rows, *logs.values()):
        frame.unpersist()


@pytest.fixture(scope="module")
def drawn(spark, world) -> dict[str, list[tuple]]:
    """(positive, number, row) of every sample of each mode, of another seed and of scattered events.

    The number of the positive itself is None.
    """
    scattered = replace(world, rows=world.rows.repartition(7, F.rand(3)))
    labelled = {mode: world.labelled(mode) for mode in MODES}
    labelled |= {"scattered": scattered.labelled("uniform"), "seed 2": world.labelled("uniform", seed=2)}
    named = [rows.withColumn("event_id", F.concat_ws(":", F.lit(name), "event_id")) for name, rows in labelled.items()]
    indices = {
        entity: spark.createDataFrame(list(idx.items()), f"{entity}_id string, idx int")
        for entity, idx in world.indices().items()
    }
    together = reduce(DataFrame.unionByName, named)  # one query for all
    features = sample_features(together, world.rows, world.logs, indices, config("uniform").features)
    known = {md5(f"{e}/{n}".encode()).hexdigest(): (e, n) for e in world.positives for n in range(2 * NEGATIVES)}
    found = {name: [] for name in labelled}
    for row in features.collect():
        name, sample_id = row["sample_id"].split(":")
        event_id, number = known.get(sample_id, (sample_id, None))
        found[name].append((world.positives[event_id], number, row.asDict()))
    return found


@pytest.fixture(scope="module")
def chances(world) -> dict[str, dict[str, dict[str, float]]]:
    """For each mode and positive the probability of every item that may be its negative."""
    taken = defaultdict(set)
    for event in world.positives.values():
        taken[event.user_id, event.event_time.date()].add(event.item_id)

    def of(mode: str) -> dict[str, dict[str, float]]:
        oracle, found = world.oracle(mode), {}
        weights = {day: oracle.weights(day, mode == "popularity") for day in {day for _, day in taken}}
        for event_id, event in world.positives.items():
            day = event.event_time.date()
            left = {item: w for item, w in weights[day].items() if item not in taken[event.user_id, day]}
            found[event_id] = {item: w / sum(left.values()) for item, w in left.items()}
        return found

    return {mode: of(mode) for mode in MODES}


def negatives(drawn: list[tuple]) -> list[tuple]:
    return [(event, row) for event, number, row in drawn if number is not None]


@pytest.mark.parametrize("mode", MODES)
def test_negatives_were_live_before_the_day_and_not_taken_on_it(world, drawn, chances, mode):
    item_of = {idx: item for item, idx in world.indices()["item"].items()}
    for event, row in negatives(drawn[mode]):
        assert item_of[row["item_idx"]] in chances[mode][event.event_id]
    items = {item_of[row["item_idx"]] for _, row in negatives(drawn[mode])}
    assert ("never shown" in items) == (mode == "uniform") and "next month" not in items


@pytest.mark.parametrize("mode", MODES)
def test_every_positive_with_something_live_has_its_negatives(drawn, chances, mode):
    numbers = defaultdict(list)
    for event, number, _ in drawn[mode]:
        numbers[event.event_id].append(number)
    possible = {event_id for event_id, left in chances[mode].items() if left}
    assert set(numbers) <= possible and len(numbers) > 0.99 * len(possible) and len(possible) < len(chances[mode])
    assert all(found.count(None) == 1 for found in numbers.values())
    sizes = Counter(len(found) - 1 for found in numbers.values())
    assert max(sizes) == NEGATIVES and sizes[NEGATIVES] > 0.98 * len(numbers)


@pytest.mark.parametrize("mode", MODES)
def test_positives_and_negatives_have_the_features_of_a_slow_oracle(world, drawn, mode):
    oracle = world.oracle(mode)
    item_of = {idx: item for item, idx in world.indices()["item"].items()}
    for event, number, row in random.Random(9).sample(drawn[mode], 1000):
        item = event.item_id if number is None else item_of[row["item_idx"]]
        expected = oracle.row(event, item, float(number is None))
        del expected["split"]
        assert differences(row, expected) == [], (event, number)


@pytest.mark.parametrize("mode", MODES)
def test_draws_follow_the_weight_of_the_day(world, drawn, chances, mode):
    idx = world.indices()["item"]
    counts = {name: Counter(row["item_idx"] for _, row in negatives(drawn[name])) for name in MODES}
    expected = Counter()
    for event, _ in negatives(drawn[mode]):
        for item, chance in chances[mode][event.event_id].items():
            expected[idx[item]] += chance

    def chi_square(found: Counter) -> float:
        scale = sum(found.values()) / sum(expected.values())
        return sum((found[item] - n * scale) ** 2 / (n * scale) for item, n in expected.items())

    other = next(name for name in MODES if name != mode)
    assert chi_square(counts[mode]) < 2 * len(expected)  # about one an item when the draws are right
    assert chi_square(counts[other]) > 5 * len(expected)


def test_the_seed_decides_the_draws_and_the_partitioning_does_not(drawn):
    rows = {name: {(e.event_id, n, row["item_idx"]) for e, n, row in found} for name, found in drawn.items()}
    assert rows["scattered"] == rows["uniform"]
    assert len(rows["seed 2"] & rows["uniform"]) < 0.5 * len(rows["uniform"])
    assert all(len({key[:2] for key in found}) == len(drawn[name]) for name, found in rows.items())  # ids are unique
