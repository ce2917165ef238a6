"""The stages align_encoder and embed from end to end, on a tiny shop with a fake raw encoder."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import functions as F

from akt_spark.content import align, embed
from akt_spark.content.registry import current, current_revision, model_folder
from akt_spark.errors import DataError, HealthGateError, MissingInput
from content.conftest import DS, TRAIN_END, clicks_in_groups, write_events, write_items, write_users


def pairs(lake) -> list[tuple]:
    return sorted(tuple(row) for row in lake.read("content.item_pairs").collect())


def vectors(lake, entity: str) -> dict[str, list[float] | None]:
    """Vectors of the revision in use, by id."""
    rows = lake.read(f"content.{entity}_embeddings").where(F.col("revision") == current_revision(lake, entity, DS))
    return {row[f"{entity}_id"]: row["vector"] for row in rows.collect()}


def night(ctx) -> list[str]:
    return align.run(ctx).notes + embed.run(ctx).notes


def test_a_night_aligns_embeds_and_the_next_one_only_adds_what_is_new(shop, configured, fake_encoder):
    ctx = configured()
    notes = night(ctx)
    item, user = current(shop, "item", DS), current(shop, "user", DS)
    assert item.metrics["recall_aligned"] > item.metrics["recall_raw"] + 0.2
    assert (item.base_revision, user.base_revision) == (fake_encoder.revision, item.revision)
    assert item.trained_until == user.trained_until == TRAIN_END
    assert any("trained on" in note for note in notes)
    assert any("items with fewer than 10 clicks" in note for note in notes)

    items, users = vectors(shop, "item"), vectors(shop, "user")
    lengths = [np.linalg.norm(vector) for vector in [*items.values(), *users.values()]]
    assert {len(vector) for vector in [*items.values(), *users.values()]} == {16}
    np.testing.assert_allclose(lengths, 1, atol=1e-5)
    assert "profile_only" in users  # no click, but a profile
    assert "nobody" not in users
    assert any("1 have neither clicks nor a profile" in note for note in notes)
    clicks = {row["user_id"]: row["clicks"] for row in shop.read("content.user_embeddings").collect()}
    assert (clicks["u00"], clicks["profile_only"]) == (4, 0)  # interest.history is 4

    encoded = len(fake_encoder.notes("encoded"))
    late = (*clicks_in_groups(), ("u00", "g1n1", datetime(2024, 1, 26, 12)))
    write_events(shop, late)  # becomes known the next day
    tomorrow = replace(ctx, ds=date(2024, 2, 1))
    notes = night(tomorrow)
    assert sum("is used again" in note for note in notes) == 2
    assert len(fake_encoder.notes("encoded")) == encoded
    changed = {u for u, vector in vectors(shop, "user").items() if vector != users[u]}
    assert changed == {"u00"}
    assert vectors(shop, "item") == items


def test_events_after_the_training_period_change_no_pair_no_encoder_and_no_vector(shop, configured, fake_encoder):
    ctx = configured("alignment.refresh_days=1")
    night(ctx)
    first = pairs(shop), current_revision(shop, "item", DS), current_revision(shop, "user", DS), vectors(shop, "user")
    after = datetime.combine(TRAIN_END + timedelta(days=1), datetime.min.time())
    leak = [(f"u{n:02d}", f"g{(n + 1) % 5}n{n % 8}", after + timedelta(hours=n)) for n in range(60)]
    write_events(shop, [*clicks_in_groups(), *leak])
    for revision in first[1:3]:  # with its folder gone an encoder must be trained again, on the changed log
        model_folder(shop, revision).rename(model_folder(shop, f"gone-{revision}"))
    assert not any("is used again" in note for note in night(ctx))
    again = pairs(shop), current_revision(shop, "item", DS), current_revision(shop, "user", DS), vectors(shop, "user")
    assert first == again  # revisions hash every weight


def test_a_rerun_of_an_early_day_empties_what_a_later_day_knew(shop, configured, fake_encoder):
    ctx = configured()
    write_users(shop, {"u00": {}, "u01": {}, "u02": {}})
    night(ctx)
    assert vectors(shop, "user")["u00"] is not None
    kept = [click for click in clicks_in_groups() if click[0] != "u00"]
    write_events(shop, kept)
    embed.run(ctx)
    users = vectors(shop, "user")
    assert users["u00"] is None
    row = shop.read("content.user_embeddings").where("user_id = 'u00'").head()
    assert row["error"] == f"neither clicks up to {TRAIN_END} nor a profile"


def test_alignment_that_learns_nothing_is_rejected_and_the_encoder_in_use_stays(shop, configured, fake_encoder):
    align.run(configured())
    good = current_revision(shop, "item", DS)
    write_events(shop, clicks_in_groups(shuffled=True))
    with pytest.raises(HealthGateError, match=r"rejected: aligned vectors find .* alignment learned nothing"):
        align.run(configured("alignment.seed=5", "alignment.recall_at=3"))
    rejected = shop.read("content.encoders").where("status = 'rejected'").collect()
    assert [(row["entity"], row["path"]) for row in rejected] == [("item", None)]
    assert current_revision(shop, "item", DS) == good


def test_a_collapsed_user_model_is_rejected(shop, configured, fake_encoder):
    with pytest.raises(HealthGateError, match=r"user encoder .* rejected: .* min_variance_ratio is 50: .* collapsed"):
        align.run(configured("interest.min_variance_ratio=50.0"))
    assert current_revision(shop, "item", DS)  # the item encoder passed its own gate
    with pytest.raises(MissingInput, match="no registered user encoder"):
        embed.run(configured())


def test_too_few_pairs_say_what_is_needed(shop, configured, fake_encoder):
    with pytest.raises(DataError, match=r"held out up to 2024-01-25; alignment.min_held_out asks for 5000"):
        align.run(configured("alignment.min_held_out=5000"))


def test_samples_on_the_driver_are_bounded_and_say_so(shop, configured, fake_encoder):
    ctx = configured("alignment.max_pairs=60", "alignment.max_candidates=30", "alignment.min_held_out=1")
    notes = []
    try:
        notes = align.run(ctx).notes
    except HealthGateError:
        pytest.fail("planted groups are learned from a sample too")
    assert any("a sample: alignment.max_pairs is 60" in note for note in notes)
    assert any("recall searches 30 of 40 items" in note for note in notes)


def test_embedding_before_aligning_names_the_job(shop, configured, fake_encoder):
    with pytest.raises(MissingInput, match=r"run jobs/align_encoder\.py"):
        embed.run(configured())


def test_an_item_that_could_not_be_encoded_has_no_aligned_vector(shop, configured, fake_encoder):
    ctx = configured("encoder.max_error_share=0.5")
    titles = {row["item_id"]: row["title"] for row in shop.read("bronze.items").collect()}
    write_items(shop, titles | {"g0n0": "poison"})
    night(ctx)
    items = vectors(shop, "item")
    assert items["g0n0"] is None
    assert sum(vector is not None for vector in items.values()) == 39
    write_items(shop, titles)
    embed.run(ctx)
    assert vectors(shop, "item")["g0n0"] is not None
