"""The stages align_encoder and embed from end to end, on a tiny shop with a fake raw encoder.

One night is run once; every test goes on from a copy of its lake.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import functions as F

from akt_spark.content import align, embed
from akt_spark.content.align_items import mine_pairs
from akt_spark.content.driver import pair_data
from akt_spark.content.registry import current, current_revision, model_folder
from akt_spark.content.user_rows import held_out_user
from akt_spark.errors import DataError, HealthGateError, MissingInput
from akt_spark.lake import Lake
from akt_spark.stage import Context
from content.conftest import (
    DS,
    TRAIN_END,
    clicks_in_groups,
    small_config,
    write_events,
    write_items,
    write_shop,
    write_users,
)
from content.fakes import FakeSpec


@dataclass
class Night:
    """A finished night."""

    root: Path
    spec: FakeSpec
    notes: list[str]


@pytest.fixture(scope="module")
def finished(spark, tmp_path_factory) -> Iterator[Night]:
    folder = tmp_path_factory.mktemp("night")
    spec = FakeSpec(str(folder), revision=f"fake-{folder.name}")
    lake = Lake(spark, str(folder / "lake"))
    write_shop(lake)
    with pytest.MonkeyPatch.context() as patch:
        for stage in (align, embed):
            patch.setattr(stage, "encoder_spec", lambda config: spec)
        yield Night(folder / "lake", spec, night(Context(spark, lake, small_config(lake.root), DS, "run")))


@pytest.fixture
def shop(finished, lake) -> Lake:
    shutil.copytree(finished.root, lake.root)
    return lake


def night(ctx: Context) -> list[str]:
    return align.run(ctx).notes + embed.run(ctx).notes


def vectors(lake: Lake, entity: str) -> dict[str, list[float] | None]:
    """Vectors of the revision in use, by id."""
    rows = lake.read(f"content.{entity}_embeddings").where(F.col("revision") == current_revision(lake, entity, DS))
    return {row[f"{entity}_id"]: row["vector"] for row in rows.collect()}


def pairs(lake: Lake) -> list[tuple]:
    return sorted(tuple(row) for row in lake.read("content.item_pairs").collect())


def test_a_night_aligns_the_items_and_embeds_everybody_there_is_something_to_say_about(shop, finished):
    item, user = current(shop, "item", DS), current(shop, "user", DS)
    assert item.metrics["recall_aligned"] > item.metrics["recall_raw"] + 0.2
    assert (item.base_revision, user.base_revision) == (finished.spec.revision, item.revision)
    assert item.trained_until == user.trained_until == TRAIN_END
    items, users = vectors(shop, "item"), vectors(shop, "user")
    everything = np.array([*items.values(), *users.values()])
    assert everything.shape == (40 + 61, 16)
    np.testing.assert_allclose(np.linalg.norm(everything, axis=1), 1, atol=1e-5)
    assert "profile_only" in users  # no click, but a profile
    assert "nobody" not in users
    clicks = {row["user_id"]: row["clicks"] for row in shop.read("content.user_embeddings").collect()}
    assert (clicks["u00"], clicks["profile_only"]) == (4, 0)  # interest.history is 4
    for said in ("trained on", "tail items", "1 have neither clicks nor a profile", "raw, 0."):
        assert any(said in note for note in finished.notes), said


def test_the_next_night_trains_nothing_and_embeds_only_what_is_new(shop, finished, configured):
    items, users, encoded = vectors(shop, "item"), vectors(shop, "user"), finished.spec.notes("encoded")
    late = ("u00", "g1n1", datetime(2024, 1, 26, 12))  # enters the training period with the next day
    write_events(shop, [*clicks_in_groups(), late])
    notes = night(configured(ds=date(2024, 2, 1)))
    assert sum("is used again" in note for note in notes) == 2
    assert finished.spec.notes("encoded") == encoded
    assert {user for user, vector in vectors(shop, "user").items() if vector != users[user]} == {"u00"}
    assert vectors(shop, "item") == items


@pytest.mark.night
def test_users_are_committed_in_waves_and_a_broken_run_loses_one_at_most(shop, configured, monkeypatch):
    everybody, commit = vectors(shop, "user"), Lake.merge
    shop.spark.sql(f"DELETE FROM delta.`{shop.path('content.user_embeddings')}`")
    merged = []

    def breaks_at_the_second_wave(lake, table, rows):
        merged.append(table)
        if len(merged) == 2:
            raise KeyboardInterrupt
        commit(lake, table, rows)

    monkeypatch.setattr(Lake, "merge", breaks_at_the_second_wave)
    with pytest.raises(KeyboardInterrupt):
        embed.run(configured("encoder.commit_rows=25"))
    kept = vectors(shop, "user")
    assert 10 < len(kept) < 40
    monkeypatch.setattr(Lake, "merge", commit)
    notes = embed.run(configured("encoder.commit_rows=25")).notes
    assert any(f"{len(everybody) - len(kept)} new or changed vectors" in note for note in notes)
    assert vectors(shop, "user") == everybody


def test_events_after_the_training_period_change_no_pair_no_encoder_and_no_vector(shop, configured):
    encoders = [current_revision(shop, entity, DS) for entity in ("item", "user")]
    first = pairs(shop), encoders, vectors(shop, "item"), vectors(shop, "user")
    after = datetime.combine(TRAIN_END + timedelta(days=1), datetime.min.time())
    leak = [(f"u{n:02d}", f"g{(n + 1) % 5}n{n % 8}", after + timedelta(hours=n)) for n in range(60)]
    write_events(shop, [*clicks_in_groups(), *leak])
    for revision in encoders:  # with its folder gone an encoder must be trained again, now on the changed log
        model_folder(shop, revision).rename(model_folder(shop, f"gone-{revision}"))
    assert not any("is used again" in note for note in night(configured()))
    encoders = [current_revision(shop, entity, DS) for entity in ("item", "user")]
    assert first == (pairs(shop), encoders, vectors(shop, "item"), vectors(shop, "user"))  # revisions hash weights


def test_items_learn_nothing_of_the_users_that_user_models_are_judged_by(shop, configured):
    judged, others = pairs(shop), clicks_in_groups()
    named = shop.spark.range(100).select(F.concat(F.lit("x"), "id").alias("user_id"))
    config = configured().config.interest
    kept = [row["user_id"] for row in named.where(held_out_user(config)).collect()]
    assert 0 < len(kept) < 40
    start = datetime(2024, 1, 2)
    across = [(user, f"g{n % 5}n{n % 8}", start + timedelta(hours=n)) for user in kept for n in range(8)]
    write_events(shop, [*others, *across])
    mine_pairs(configured())
    assert pairs(shop) == judged
    mine_pairs(configured(f"interest.seed={config.seed + 1}"))
    assert pairs(shop) != judged


@pytest.mark.night
def test_vectors_that_know_too_much_for_an_early_day_are_emptied_when_it_is_run_again(shop, configured):
    write_users(shop, {"u00": {}, "u01": {}})
    write_events(shop, [click for click in clicks_in_groups() if click[0] != "u00"])
    embed.run(configured())
    users = vectors(shop, "user")
    assert users["u00"] is None
    assert users["u01"] is not None
    row = shop.read("content.user_embeddings").where("user_id = 'u00'").head()
    assert row["error"] == f"neither clicks up to {TRAIN_END} nor a profile"


@pytest.mark.night
def test_alignment_that_learns_nothing_is_rejected_and_the_encoder_in_use_stays(shop, configured):
    good = current_revision(shop, "item", DS)
    write_events(shop, clicks_in_groups(shuffled=True))
    with pytest.raises(HealthGateError, match=r"rejected: recall@7 of held-out pairs .* alignment learned nothing"):
        align.run(configured("alignment.epochs=2"))  # another configuration: nothing to use again
    rejected = shop.read("content.encoders").where("status = 'rejected'").collect()
    assert [(row["entity"], row["path"]) for row in rejected] == [("item", None)]
    assert current_revision(shop, "item", DS) == good


@pytest.mark.night
def test_a_collapsed_user_model_is_rejected(shop, configured):
    good = current_revision(shop, "user", DS)
    with pytest.raises(HealthGateError, match=r"user encoder .* rejected: .*min_variance_ratio is 50: .* collapsed"):
        align.run(configured("interest.min_variance_ratio=50.0"))
    assert current_revision(shop, "user", DS) == good


def test_too_few_pairs_say_what_is_needed(shop, configured):
    with pytest.raises(DataError, match=r"held out up to 2024-01-25; alignment.min_held_out asks for 5000"):
        align.run(configured("alignment.min_held_out=5000"))


def test_what_comes_to_the_driver_is_bounded_and_said_so(shop, finished, configured):
    ctx = configured("alignment.max_pairs=60", "alignment.max_candidates=30")
    data, ids, notes = pair_data(ctx, finished.spec.revision)
    assert len(data.vectors) == len(ids) == 30
    assert 0 < len(data.train) + len(data.held_out) <= 60
    assert any("a sample: alignment.max_pairs is 60" in note for note in notes)
    assert any("pairs and recall are of 30 of 40 items (alignment.max_candidates)" in note for note in notes)


@pytest.mark.night
def test_an_item_that_can_no_longer_be_encoded_loses_its_aligned_vector_until_it_can(shop, configured):
    ctx = configured("encoder.max_error_share=0.5")
    titles = {row["item_id"]: row["title"] for row in shop.read("bronze.items").collect()}
    before = vectors(shop, "item")
    write_items(shop, titles | {"g0n0": "poison"})
    embed.run(ctx)
    assert vectors(shop, "item") == before | {"g0n0": None}
    write_items(shop, titles)
    embed.run(ctx)
    after = vectors(shop, "item")
    again = after.pop("g0n0")
    assert again == pytest.approx(before.pop("g0n0"), abs=1e-5)  # projected in another batch than before
    assert after == before


def test_embedding_before_aligning_names_the_job(lake, finished, configured):
    write_items(lake, {"i": "thing"})
    with pytest.raises(MissingInput, match=r"run jobs/align_encoder\.py"):
        embed.run(configured())
