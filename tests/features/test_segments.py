from __future__ import annotations

from datetime import date

import pytest

from akt_spark.conf_file import load
from akt_spark.config import SegmentConfig
from akt_spark.errors import ConfigError
from akt_spark.features.segments import segments

AS_OF = date(2024, 1, 10)


@pytest.fixture
def segmented(spark, lake):
    """Segments of items with the given impressions up to the day; every item has a million more one day later."""

    def build(impressions: dict[str, int], config: SegmentConfig):
        def row(item: str, day: date, count: int):
            return (item, day, count, count // 2, 0, 0, 1, date(2024, 1, 1), day)

        rows = [row(item, AS_OF, count) for item, count in impressions.items() if count]
        rows += [row(item, date(2024, 1, 11), 1_000_000) for item in impressions]
        schema = lake.schema("features.item_activity")
        lake.overwrite("features.item_activity", spark.createDataFrame(rows, schema))
        index = [(item, n) for n, item in enumerate(impressions, 1)]
        lake.overwrite("features.item_index", spark.createDataFrame(index, "item_id string, idx int"))
        found = segments(lake, "item", AS_OF, config)
        assert found.columns == ["item_id", "impressions", "clicks", "segment", "role"]
        return {item: tuple(rest) for item, *rest in found.collect()}

    return build


def test_thresholds_count_up_to_and_including_the_day(segmented):
    config = SegmentConfig(tail_below=10, student_below=5, teacher_at_least=100)
    found = segmented({"never": 0, "four": 4, "five": 5, "nine": 9, "ten": 10, "99": 99, "100": 100}, config)
    assert found == {
        "never": (0, 0, "cold", "student"),
        "four": (4, 2, "tail", "student"),
        "five": (5, 2, "tail", "none"),
        "nine": (9, 4, "tail", "none"),
        "ten": (10, 5, "head", "none"),
        "99": (99, 49, "head", "none"),
        "100": (100, 50, "head", "teacher"),
    }


def test_teachers_are_among_the_most_shown_that_make_up_a_share_of_all_impressions(segmented):
    config = SegmentConfig(tail_below=10, student_below=5, teacher_at_least=100)
    shown = {"a": 600, "b": 150, "b too": 150, "c": 110, "d": 100, "e": 90}  # 1,200: above c are 75 %, above d 84 %
    assert roles(segmented(shown, config)) == dict.fromkeys(["a", "b", "b too", "c"], "teacher") | {
        "d": "none",
        "e": "none",
    }
    every = config.model_copy(update={"teacher_impressions": 1.0})
    assert roles(segmented(shown, every)) == dict.fromkeys(["a", "b", "b too", "c", "d"], "teacher") | {"e": "none"}


def roles(found):
    return {item: role for item, (_, _, _, role) in found.items()}


def test_quantiles_are_shares_of_the_ids_with_impressions(segmented):
    config = SegmentConfig(tail_below=10, student_below=10, rule="quantile", teacher_share=0.2, student_share=0.5)
    found = segmented({"cold": 0, "cold too": 0} | {f"i{n}": n for n in range(1, 11)}, config)
    students, teachers = {"cold", "cold too", "i1", "i2", "i3", "i4", "i5"}, {"i9", "i10"}
    assert {item for item, role in roles(found).items() if role == "student"} == students
    assert {item for item, role in roles(found).items() if role == "teacher"} == teachers


def test_equal_counts_share_a_role_in_the_quantile_rule(segmented):
    config = SegmentConfig(tail_below=10, student_below=10, rule="quantile", teacher_share=0.2, student_share=0.5)
    found = segmented({"a": 1, "b": 1, "c": 1, "d": 1, "e": 7}, config)
    assert roles(found) == {"a": "student", "b": "student", "c": "student", "d": "student", "e": "teacher"}
    assert set(roles(segmented({"a": 4, "b": 4, "c": 4}, config)).values()) == {"none"}


def test_roles_that_overlap_are_refused():
    with pytest.raises(ConfigError, match=r"teacher_at_least \(5\) must not be below student_below \(10\)"):
        load(None, ["segments.item.teacher_at_least=5"])
    with pytest.raises(ConfigError, match=r"must be at most 1"):
        load(None, ["segments.user.teacher_share=0.6"])


def test_a_log_without_impressions_counts_its_positives(segmented):
    config = SegmentConfig(tail_below=10, student_below=5, teacher_at_least=50, exposures="positives")
    found = segmented({"never": 0, "eight": 8, "30": 30, "100": 100}, config)  # half as many clicks, no more positives
    assert found == {
        "never": (0, 0, "cold", "student"),
        "eight": (4, 4, "tail", "student"),
        "30": (15, 15, "head", "none"),
        "100": (50, 50, "head", "teacher"),
    }
