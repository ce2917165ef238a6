from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from akt_spark.content import registry
from akt_spark.content.registry import EncoderRecord, current_revision, model_folder, reusable
from akt_spark.errors import MissingInput

FIRST = EncoderRecord(
    revision="one",
    entity="item",
    stage="aligned",
    family="fake",
    base_revision="raw",
    path="somewhere",
    dim=8,
    trained_until=date(2024, 1, 4),
    config_hash="A",
    metrics={"recall_raw": 0.1},
    ds=date(2024, 1, 10),
)
LATER = replace(FIRST, revision="two", ds=date(2024, 1, 20), trained_until=date(2024, 1, 14))


def test_a_day_uses_the_newest_choice_up_to_it_and_never_a_later_one(lake):
    for encoder in (LATER, FIRST):  # an early day is run after a later one
        registry.record(lake, encoder)
    assert current_revision(lake, "item", date(2024, 1, 31)) == "two"
    assert current_revision(lake, "item", date(2024, 1, 19)) == "one"
    with pytest.raises(MissingInput, match=r"no registered item encoder up to 2024-01-09: run jobs/align_encoder.py"):
        current_revision(lake, "item", date(2024, 1, 9))


def test_the_last_choice_of_a_day_wins_also_when_it_is_an_old_encoder_again(lake):
    ds = FIRST.ds
    for encoder in (FIRST, replace(LATER, ds=ds), FIRST):  # configuration A, then B, then A again
        registry.record(lake, encoder)
        assert current_revision(lake, "item", ds) == encoder.revision


def test_rejected_and_raw_encoders_and_those_of_the_other_entity_are_not_in_use(lake):
    rejected, raw = replace(FIRST, revision="bad", status="rejected"), replace(FIRST, revision="raw", stage="raw")
    for encoder in (FIRST, rejected, raw):
        registry.record(lake, encoder)
    assert current_revision(lake, "item", FIRST.ds) == "one"
    with pytest.raises(MissingInput):
        current_revision(lake, "user", FIRST.ds)


def test_an_encoder_is_reused_only_while_young_and_never_when_it_knows_later_days(lake):
    registry.record(lake, FIRST)
    model_folder(lake, "one").mkdir(parents=True)

    def found(config_hash: str, train_end: date) -> EncoderRecord | None:
        return reusable(lake, "item", config_hash, train_end, refresh_days=30)

    assert found("A", date(2024, 1, 4)) == FIRST
    assert found("A", date(2024, 2, 3)) == FIRST  # 30 days later
    assert found("A", date(2024, 2, 4)) is None
    assert found("A", date(2024, 1, 3)) is None
    assert found("B", date(2024, 1, 4)) is None


def test_an_encoder_on_a_tuned_one_whose_folder_is_gone_is_not_reused(lake):
    tuned = replace(FIRST, revision="tuned", stage="tuned")
    for encoder in (tuned, replace(FIRST, base_revision="tuned")):
        registry.record(lake, encoder)
        model_folder(lake, encoder.revision).mkdir(parents=True)
    assert registry.tuned(lake, "tuned") == tuned
    assert registry.tuned(lake, "one") is None
    assert reusable(lake, "item", "A", date(2024, 1, 4), refresh_days=30) is not None
    model_folder(lake, "tuned").rmdir()
    assert reusable(lake, "item", "A", date(2024, 1, 4), refresh_days=30) is None


def test_an_encoder_whose_folder_is_gone_is_not_reused(lake):
    registry.record(lake, FIRST)
    assert reusable(lake, "item", "A", date(2024, 1, 4), refresh_days=30) is None
