"""Item embeddings in Spark, with an encoder that notes what it was asked to do."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from pyspark.sql import functions as F

from akt_spark.content.items import embed_catalogue
from akt_spark.errors import ConfigError, DataError, EncoderError, MissingInput
from content.conftest import write_items

TITLES = {f"i{n:02d}": f"title {n}" for n in range(40)}


def stored(lake, spec):
    rows = lake.read("content.item_embeddings").where(F.col("revision") == spec.revision).collect()
    return {row["item_id"]: row for row in rows}


def test_every_item_is_encoded_once_with_one_model_load_a_worker(lake, configured, spec):
    write_items(lake, TITLES)
    report = embed_catalogue(configured("encoder.commit_rows=15"), spec)
    assert report.rows == len(stored(lake, spec)) == 40
    assert sorted(spec.notes("encoded")) == sorted(f"Title: {t}. Category: kind {i[:2]}" for i, t in TITLES.items())
    workers = [line.split()[0] for line in spec.notes("loads")]
    assert len(workers) == len(set(workers)) <= 2  # several tasks a worker, several commits
    row = stored(lake, spec)["i07"]
    assert (len(row["vector"]), row["image_missing"], row["n_tokens"], row["error"]) == (32, True, 6, None)
    assert "images missing 40, corrupt 0" in report.notes[1]
    assert not [*lake.artifact("waves").rglob("*.parquet")]
    measured = r"[\d,.]+ items/s and [\d,.]+ tokens/s a worker \(\d workers\), [\d.]+% of their time in the model, "
    assert re.search(measured + rf"0.0% padding; {len(workers)} models loaded in ", report.notes[2])


def test_items_that_read_alike_are_encoded_once(lake, configured, spec):
    write_items(lake, {f"i{n:02d}": f"title {n % 4}" for n in range(40)})  # and 4 categories
    report = embed_catalogue(configured("encoder.commit_rows=15"), spec)
    rows = stored(lake, spec)
    texts = {item: f"title {int(item[1:]) % 4} {item[:2]}" for item in rows}
    assert len(spec.notes("encoded")) == len(set(texts.values())) == 16
    by_text = {text: {tuple(rows[item]["vector"]) for item in rows if texts[item] == text} for text in texts.values()}
    assert {len(vectors) for vectors in by_text.values()} == {1}
    assert len({vector for vectors in by_text.values() for vector in vectors}) == 16
    assert "; 24 items read like another one" in report.notes[2]


def test_items_that_share_a_text_and_have_a_photo_each_are_no_work_of_one_task(lake, configured, spec):
    write_items(lake, {f"i{n:02d}": "photo" for n in range(40)})
    rows = lake.read("bronze.items").withColumns({"image": F.encode("item_id", "utf-8"), "category": F.array()})
    lake.overwrite("bronze.items", rows.localCheckpoint())
    embed_catalogue(configured(), replace(spec, seconds_a_row=0.05))
    assert len(spec.notes("loads")) == 2  # workers


def test_only_new_and_changed_items_are_encoded_again(lake, configured, spec):
    ctx = configured()
    write_items(lake, TITLES)
    embed_catalogue(ctx, spec)
    before, already = stored(lake, spec), len(spec.notes("encoded"))
    assert embed_catalogue(ctx, spec).rows == 0
    write_items(lake, TITLES | {"i03": "another title", "new": "new title"})
    assert embed_catalogue(ctx, spec).rows == 2
    assert sorted(spec.notes("encoded")[already:]) == [
        "Title: another title. Category: kind i0",
        "Title: new title. Category: kind ne",
    ]
    after = stored(lake, spec)
    assert after["i03"]["vector"] != before["i03"]["vector"]
    assert after["i03"]["content_hash"] == "hash of another title"
    assert {i for i in before if before[i] != after[i]} == {"i03"}


@pytest.mark.night
def test_failing_items_keep_their_error_and_are_tried_again_next_time(lake, configured, spec):
    ctx = configured("encoder.max_error_share=0.1")
    write_items(lake, TITLES | {"i05": "poison", "i06": "deadly"})
    report = embed_catalogue(ctx, spec)
    errors = {item: row["error"] for item, row in stored(lake, spec).items() if row["vector"] is None}
    assert errors.pop("i05").startswith("ValueError: cannot read 'Title: poison")
    assert errors == {"i06": "the encoder's process ended with exit code 9 at this row"}
    assert "errors 2" in report.notes[1]
    assert re.search(r"rows ended the encoder's process \d+ times", report.notes[2])
    write_items(lake, TITLES | {"i05": "poison"})
    assert embed_catalogue(ctx, spec).rows == 2


@pytest.mark.night
def test_a_stall_ends_the_job_and_names_the_items_in_flight(lake, configured, spec):
    write_items(lake, {f"i{n}": f"title {n}" for n in range(6)} | {"i3": "sleepy"})
    with pytest.raises(EncoderError, match=r"has finished no batch; rows in flight: .*i3.*, for 20 s"):
        embed_catalogue(configured("encoder.stall_seconds=20"), spec)


def test_an_encoder_that_cannot_be_loaded_says_so_without_a_stack_trace(lake, configured, spec):
    write_items(lake, {"i": "title"})
    gone = replace(spec, folder=f"{spec.folder}/gone")
    with pytest.raises(EncoderError, match=r"^fake-\S+ cannot be loaded on cpu: FileNotFoundError: [^\n]+gone[^\n]+$"):
        embed_catalogue(configured(), gone)


@pytest.mark.night
def test_another_encoder_under_the_same_revision_is_refused_with_the_difference(lake, configured, spec):
    ctx = configured()
    write_items(lake, {"i": "title"})
    embed_catalogue(ctx, spec)
    before = stored(lake, spec)
    write_items(lake, {"i": "title", "new": "new title"})
    with pytest.raises(ConfigError, match=r"of another encoder \(prompt: one -> two\): set encoder.revision to a name"):
        embed_catalogue(ctx, replace(spec, prompt="two"))
    assert stored(lake, spec) == before
    embed_catalogue(ctx, replace(spec, prompt="two", revision=f"{spec.revision}-b"))
    assert embed_catalogue(ctx, spec).rows == 1
    recorded = lake.read("content.raw_encoders").select("revision", "spec").collect()
    assert sorted(map(tuple, recorded)) == [
        (spec.revision, '{"packages": {"fake": "1.0"}, "prompt": "one"}'),
        (f"{spec.revision}-b", '{"packages": {"fake": "1.0"}, "prompt": "two"}'),
    ]


@pytest.mark.night
def test_too_many_failing_items_fail_the_stage_and_stay_visible(lake, configured, spec):
    write_items(lake, TITLES | {"i05": "poison", "i06": "poison too"})
    with pytest.raises(DataError, match=r"2 of 40 items could not be embedded \(5.0%; encoder.max_error_share is 1.0%"):
        embed_catalogue(configured(), spec)
    assert sum(row["error"] is not None for row in stored(lake, spec).values()) == 2


def test_an_empty_catalogue_names_the_job_that_fills_it(lake, configured, spec):
    with pytest.raises(MissingInput, match=r"bronze.items does not exist: run jobs/ingest.py"):
        embed_catalogue(configured(), spec)
    lake.register("bronze.items")
    with pytest.raises(MissingInput, match=r"bronze.items is empty: run jobs/ingest.py"):
        embed_catalogue(configured(), spec)
    assert not lake.exists("content.raw_encoders")  # nothing was encoded, so no revision is held to anything
