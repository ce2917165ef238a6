"""The stages train_ranker and score on small Delta tables."""

import re
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest
import torch
from pyspark.sql import functions as F

from akt_spark.conf_file import load
from akt_spark.config import Config
from akt_spark.errors import DataError, MissingInput
from akt_spark.lake import Lake
from akt_spark.ledger import Ledger, Record
from akt_spark.stage import Context, Outcome
from akt_spark.training import score, train
from akt_spark.training.checkpoint import load_ranker, read_checkpoint
from akt_spark.training.lookup import load_lookup
from akt_spark.training.plan import Plan
from akt_spark.training.reader import ordered_batches
from akt_spark.training.samples import Split, pinned_splits
from training.conftest import ITEMS, TINY, USERS, lookup_table, write_samples

RUN = "run_id = '2024-01-31'"


def config_of(root: Path, **training) -> Config:
    values = {"batch_size": 32, "epochs": 1, "backend": "inline", "ranks": 1, "curve_steps": 2, **training}
    model = {
        key: value
        for key, value in TINY.model_dump(exclude_none=True).items()
        if key not in ("transfer", "orthogonality")
    }
    variants = "ranker.variants={akt_rec: {}, base: {cluster_mode: none, transfer: false, orthogonality: 0.0}}"
    return load(
        None,
        [
            f"lake.root={root}",
            variants,
            *(f"ranker.model.{key}={value}" for key, value in model.items()),
            *(f"training.{key}={value}" for key, value in values.items()),
        ],
    )


def context_of(lake: Lake, **training) -> Context:
    return Context(lake.spark, lake, config_of(Path(lake.root), **training), date(2024, 1, 31), "2024-01-31")


@pytest.fixture(scope="module")
def night(spark, tmp_path_factory) -> tuple[Context, Outcome, Outcome]:
    """A context after train_ranker and score."""
    lake = Lake(spark, str(tmp_path_factory.mktemp("a lake")))
    write_samples(lake, ("train", 64, 0), ("train", 70, 100), ("validation", 50, 500), ("test", 40, 900))
    for entity, size in (("item", ITEMS), ("user", USERS)):
        table = f"training.{entity}s"
        rows = spark.createDataFrame(lookup_table(size, entity)).withColumns(
            {"clicks": F.lit(0), "segment": F.lit("tail"), "codebook_version": F.lit("v1")}
        )
        lake.overwrite(table, rows)
    ctx = context_of(lake)
    return ctx, train.run(ctx), score.run(ctx)


def test_a_checkpoint_of_every_variant_is_recorded_with_its_versions(night) -> None:
    ctx, outcome, _ = night
    rows = {row.variant: row for row in ctx.lake.read("training.checkpoints").collect()}
    assert set(rows) == {"akt_rec", "base"}
    for row in rows.values():
        assert row.run_id == ctx.run_id
        assert (row.step, row.epoch) == (134 // 32, 1)
        assert row.samples_version == ctx.lake.version("training.samples")
        assert row.users_version == ctx.lake.version("training.users")
        assert 0 <= row.metrics["validation_auc"] <= 1
        assert 0 < row.metrics["reader_wait"] < 1
        assert row.samples == row.step * 32
        assert 0.05 < row.peak_gib < 64
    assert rows["akt_rec"].parameters > rows["base"].parameters
    assert (outcome.rows_in, outcome.rows_out) == (134, 2)
    assert any(re.search(r"akt_rec seed 1.*reader wait .*%.*validation AUC", note) for note in outcome.notes)


def test_curves_and_gates_are_recorded(night) -> None:
    ctx, _, _ = night
    curves = ctx.lake.read("training.curves").where("variant = 'akt_rec'").groupBy("metric").count().collect()
    assert {row.metric: row["count"] for row in curves} == {
        "loss": 2,
        "orthogonality": 2,
        "transfer_item": 2,
        "transfer_user": 2,
        "validation_auc": 1,
        "validation_log_loss": 1,
        "samples_per_second": 1,
        "reader_wait": 1,
    }
    gates = ctx.lake.read("training.gates")
    assert {row.variant for row in gates.select("variant").distinct().collect()} == {"akt_rec"}  # base has no gate
    ids = {row.entity: row.ids for row in gates.groupBy("entity").agg(F.sum("ids").alias("ids")).collect()}
    assert ids == {"item": ITEMS - 1, "user": USERS - 1}


def test_finished_trainings_are_kept_and_the_tables_stay_equal(night, monkeypatch) -> None:
    ctx, _, _ = night
    before = ctx.lake.read("training.checkpoints").orderBy("variant").collect()

    def launch_nothing(*_: object) -> None:
        raise AssertionError("nothing is left to train")

    monkeypatch.setattr(train, "launch", launch_nothing)
    outcome = train.run(ctx)
    assert ctx.lake.read("training.checkpoints").orderBy("variant").collect() == before
    assert "2 of 2 rankers were trained before and are kept" in outcome.notes


def test_other_settings_are_other_trainings(night) -> None:
    ctx, _, _ = night
    folders = {
        training.folder
        for settings in ({}, {"learning_rate": 0.5}, {"seeds": "[1, 2]"}, {"precision": "bf16"}, {"device": "cpu"})
        for training in train._plan(context_of(ctx.lake, **settings))[0].trainings
    }
    # 2 variants; another rate; another seed, the first one is shared; another precision; another device is no matter
    assert len(folders) == 2 + 2 + 2 + 2


def done(ctx: Context, run_id: str, ds: date) -> None:
    """A record of a finished train_ranker, as a job leaves it."""
    started = datetime.combine(ds, time(12), UTC)
    Ledger(ctx.lake, run_id).append(
        Record(run_id, "train_ranker", ds, "done", "", "", "{}", {}, {}, 0, 0, 0, 0.0, [], None, started)
    )


@pytest.mark.night
def test_a_night_starts_from_the_rankers_of_the_newest_earlier_day(night) -> None:
    ctx, _, _ = night
    first = ctx.ds
    done(ctx, ctx.run_id, first)

    def on(day: date, warm_start: str | None = "previous", **model: int) -> Context:
        config = context_of(ctx.lake, warm_start=warm_start or "null", warm_start_share=0.5).config
        changed = config.ranker.model.model_copy(update=model)
        config = config.model_copy(update={"ranker": config.ranker.model_copy(update={"model": changed})})
        return replace(ctx, config=config, ds=day, run_id=day.isoformat())

    def parents(of: Context) -> set[str | None]:
        return {training.parent and training.parent.run_id for training in train._plan(of)[0].trainings}

    tomorrow = on(first + timedelta(days=1))
    assert parents(tomorrow) == {ctx.run_id}
    assert parents(on(first)) == parents(on(first - timedelta(days=1))) == {None}  # never from a later day, or its own
    assert parents(on(first + timedelta(days=1), None)) == {None}
    assert parents(on(first + timedelta(days=1), dim=8)) == {None}  # there is none of its kind
    warm, cold = (train._plan(one)[0].trainings for one in (tomorrow, on(first + timedelta(days=1), None)))
    assert not {training.config_hash for training in warm} & {training.config_hash for training in cold}
    try:
        outcome = train.run(tomorrow)
        rows = tomorrow.lake.read("training.checkpoints").where(F.col("run_id") == tomorrow.run_id).collect()
        assert {(row.variant, row.step) for row in rows} == {("akt_rec", 2), ("base", 2)}  # of 4
        assert sum(f"started from run {ctx.run_id}" in note for note in outcome.notes) == 2
        assert {read_checkpoint(row.path).parent for row in rows} == {training.parent.config_hash for training in warm}
        done(ctx, tomorrow.run_id, tomorrow.ds)
        assert parents(on(first + timedelta(days=2))) == {tomorrow.run_id}
        for row in rows:
            shutil.rmtree(row.path)
        assert parents(on(first + timedelta(days=2))) == {ctx.run_id}  # the newest that is still there
    finally:
        for table in ("training.checkpoints", "training.curves", "training.gates"):
            ctx.spark.sql(f"DELETE FROM delta.`{ctx.lake.path(table)}` WHERE run_id = '{tomorrow.run_id}'")


def test_scores_are_those_of_the_model(night) -> None:
    ctx, _, outcome = night
    predictions = ctx.lake.read("serving.predictions").where(RUN)
    assert predictions.count() == outcome.rows_out == 2 * 40
    splits = pinned_splits(ctx.lake, ctx.lake.version("training.samples"))
    lookups = [
        load_lookup(ctx.lake.files(f"training.{entity}s", ctx.lake.version(f"training.{entity}s")), entity)
        for entity in ("item", "user")
    ]
    for checkpoint in ctx.lake.read("training.checkpoints").collect():
        ranker = load_ranker(checkpoint.path, *lookups)
        (batch,) = ordered_batches(splits["test"].blocks, 100)
        expected = torch.sigmoid(ranker(batch)).tolist()
        mine = predictions.where(F.col("variant") == checkpoint.variant).orderBy("sample_id").collect()
        assert [row.sample_id for row in mine] == [f"s{number:05d}" for number in range(900, 940)]
        assert [row.score for row in mine] == pytest.approx(expected, abs=1e-6)
        assert [row.label for row in mine] == batch["label"].tolist()


def test_scoring_without_a_training_names_the_job(night) -> None:
    ctx, _, _ = night
    other = Context(ctx.spark, ctx.lake, ctx.config, ctx.ds, "2024-02-01")
    with pytest.raises(MissingInput, match=r"jobs/train_ranker\.py"):
        score.run(other)


def test_training_without_samples_names_the_job(lake) -> None:
    with pytest.raises(MissingInput, match=r"jobs/build_samples\.py"):
        train.run(context_of(lake))


@pytest.mark.parametrize("clicks", [0, 50])
def test_validation_needs_clicks_and_non_clicks(plan: Plan, context: Context, clicks: int) -> None:
    splits = {"train": Split((), 100, 40), "validation": Split((), 50, clicks)}
    with pytest.raises(DataError, match=rf"50 validation samples with {clicks} clicks.*split.validation_days"):
        train._require_trainable(context, plan, splits)


def test_too_few_samples_for_one_batch_name_the_key(plan: Plan, context: Context) -> None:
    splits = {"train": Split(plan.train, 178, 40), "validation": Split((), 50, 5)}
    with pytest.raises(DataError, match=r"training.batch_size is 512, set it to at most 89"):
        train._require_trainable(context, _with_batch(plan, 512), splits)
    train._require_trainable(context, _with_batch(plan, 89), splits)


def _with_batch(plan: Plan, size: int) -> Plan:
    settings = plan.settings.model_copy(update={"batch_size": size})
    return Plan(**{**plan.__dict__, "settings": settings})
