from __future__ import annotations

import threading
from datetime import date

import pytest

from akt_spark.config import Config
from akt_spark.errors import AktError, ConfigError, DataError
from akt_spark.lake import Lake
from akt_spark.semantic import commands, promotion
from akt_spark.semantic.promotion import promote, rollback
from akt_spark.semantic.versions import CODEBOOKS, codebooks
from akt_spark.stage import Context


@pytest.fixture
def books(lake: Lake) -> Lake:
    """Three candidates of items and one of users."""
    schema = lake.schema(CODEBOOKS)
    every = {"quantizer": "rqvae", "sizes": [4], "path": "p", "encoder_revision": "e", "config_hash": "c"}
    rows = [
        every | {"entity": entity, "codebook_version": version, "status": "candidate", "fitted_ds": date(2024, 1, 1)}
        for entity, version in (("item", "a"), ("item", "b"), ("item", "c"), ("user", "a"))
    ]
    values = [tuple(row.get(name) for name in schema.names) for row in rows]
    lake.overwrite(CODEBOOKS, lake.spark.createDataFrame(values, schema))
    return lake


def states(lake: Lake) -> dict[str, str]:
    return {v: "rolled back" if b.rolled_back else b.status for v, b in codebooks(lake, "item").items()}


@pytest.mark.night
def test_promotion_and_rollback_are_one_commit_each_and_walk_back_in_time(books: Lake) -> None:
    at = books.version(CODEBOOKS)
    promote(books, "item", "a", instead_of=None)
    promote(books, "item", "b", instead_of="a")
    promote(books, "item", "c", instead_of="b")
    assert states(books) == {"a": "retired", "b": "retired", "c": "published"}
    assert rollback(books, "item") == ("c", "b")
    assert states(books) == {"a": "retired", "b": "published", "c": "rolled back"}
    assert rollback(books, "item") == ("b", "a")
    assert books.version(CODEBOOKS) == at + 5
    with pytest.raises(DataError, match="no codebook of items was published before a; it stays published"):
        rollback(books, "item")
    assert states(books) == {"a": "published", "b": "rolled back", "c": "rolled back"}
    promote(books, "item", "c", instead_of="a")  # a person may change their mind
    assert states(books) == {"a": "retired", "b": "rolled back", "c": "published"}
    assert codebooks(books, "user")["a"].status == "candidate"


def test_a_decision_on_what_is_no_longer_published_is_refused(books: Lake) -> None:
    promote(books, "item", "a", instead_of=None)
    with pytest.raises(AktError, match="codebook c of items was not published: a is published now, and not b"):
        promote(books, "item", "c", instead_of="b")
    with pytest.raises(ConfigError, match="items have no codebook x; there is: a, b, c"):
        promote(books, "item", "x", instead_of="a")
    with pytest.raises(DataError, match="no codebook of users is published"):
        rollback(books, "user")


def test_a_codebook_without_ids_is_refused_even_where_nothing_is_published(books: Lake, config: Config) -> None:
    ctx = Context(books.spark, books, config, date(2024, 1, 1), "test")
    with pytest.raises(DataError, match="codebook a has no IDs: it was below its gate"):
        list(commands.promote_codebook(ctx, "item", "a"))
    assert states(books) == dict.fromkeys("abc", "candidate")


def test_a_codebook_lies_in_its_lake_wherever_that_was_when_it_was_fitted(books: Lake) -> None:
    assert codebooks(books, "item")["a"].path == str(books.artifact("codebooks", "item", "a"))


@pytest.mark.night
def test_of_two_that_publish_at_once_one_wins_and_the_other_says_so(
    books: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_have_read = threading.Barrier(2, timeout=60)
    update, outcome, waited = promotion._update, {}, set()

    def together(lake: Lake, *rest: object) -> None:
        if threading.get_ident() not in waited:  # the loser comes again
            waited.add(threading.get_ident())
            both_have_read.wait()
        update(lake, *rest)

    def run(version: str) -> None:
        lake = Lake(books.spark.newSession(), books.root)
        try:
            promote(lake, "item", version, instead_of=None)
            outcome[version] = "published"
        except AktError as error:
            outcome[version] = str(error)

    monkeypatch.setattr(promotion, "_update", together)
    threads = [threading.Thread(target=run, args=(version,)) for version in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = (version for version, said in outcome.items() if said == "published")
    (other,) = outcome.keys() - {winner}
    assert f"codebook {other} of items was not published: {winner} is published now" in outcome[other]
    assert states(books)[winner] == "published"
    assert list(states(books).values()).count("published") == 1
