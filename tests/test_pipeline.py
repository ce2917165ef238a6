"""A stage runs when something it depends on has changed, and only then; what it did is recorded."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from pyspark.sql import functions as F

from akt_spark.conf_file import load
from akt_spark.errors import AktError, DataError
from akt_spark.lake import declared_tables
from akt_spark.ledger import Ledger
from akt_spark.pipeline import STAGES, Stage, run_stage
from akt_spark.stage import Outcome

CALLS = []


def write_index(ctx):
    """A stage entry: copies the event ids' users into an index."""
    CALLS.append(ctx.ds)
    users = ctx.lake.read("bronze.users").select("user_id", F.lit(1).alias("idx"))
    ctx.lake.overwrite("features.user_index", users)
    return Outcome(rows_in=1, rows_out=1, notes=["one user"])


def fail(ctx):
    raise DataError("the log is empty: give another day")


@pytest.fixture
def stage():
    return Stage(
        "build_activity",
        f"{__name__}:write_index",
        ("bronze.users",),
        ("features.user_index",),
        ("features.sequence_length",),
    )


@pytest.fixture
def run(context, stage):
    CALLS.clear()
    users = context.spark.createDataFrame([("u", {})], "user_id string, profile map<string,string>")
    context.lake.overwrite("bronze.users", users)

    def run(ctx=context, stage=stage):
        return run_stage(ctx, Ledger(context.lake, context.run_id), stage).status

    return run


def test_a_stage_is_skipped_until_something_it_depends_on_changes(run, context, stage):
    assert [run(), run()] == ["done", "skipped"]
    version = context.lake.version("features.user_index")

    unrelated = replace(context, config=load(None, ["report.path=elsewhere", "features.ctr_prior=0.3"]))
    assert run(unrelated) == "skipped"
    assert context.lake.version("features.user_index") == version

    related = replace(context, config=load(None, ["features.sequence_length=7"]))
    assert [run(related), run(related)] == ["done", "skipped"]

    context.lake.append("bronze.users", context.lake.read("bronze.users").withColumn("user_id", F.lit("v")))
    assert run(related) == "done"


def test_other_files_of_the_encoders_model_run_its_stages_again(run, context, stage, tmp_path):
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"one")
    config = load(None, ["encoder.family=qwen_vl", f"encoder.model={weights.parent}"])
    ctx, embed = replace(context, config=config), replace(stage, config_keys=("encoder",))
    assert [run(ctx, embed), run(ctx, embed)] == ["done", "skipped"]
    weights.write_bytes(b"another")
    assert [run(ctx, embed), run(ctx, embed)] == ["done", "skipped"]


def test_a_stage_whose_output_was_deleted_runs_again(run, context):
    run()
    context.spark.sql(f"DELETE FROM delta.`{context.lake.path('features.user_index')}`")
    assert run() == "skipped", "a newer version of the output stands"
    import shutil

    shutil.rmtree(context.lake.path("features.user_index"))
    assert run() == "done"


def test_changed_code_runs_the_stage_again(run, monkeypatch):
    run()
    monkeypatch.setattr("akt_spark.pipeline.code_revision", lambda: "another revision")
    assert run() == "done"


def test_a_failed_stage_is_recorded_and_not_taken_for_done(run, context, stage):
    broken = replace(stage, entry=f"{__name__}:fail")
    with pytest.raises(DataError):
        run(stage=broken)
    row = context.lake.read("ops.runs").where("status = 'failed'").head()
    assert row.error == "the log is empty: give another day"
    assert run() == "done"


def test_a_spark_that_died_is_named_with_the_remedy(context, stage):
    stopped = SimpleNamespace(isStopped=lambda: True)
    dead = SimpleNamespace(sparkContext=SimpleNamespace(_jsc=SimpleNamespace(sc=lambda: stopped)))
    broken = replace(stage, entry=f"{__name__}:fail")
    with pytest.raises(AktError, match=r"Spark stopped in the middle \(the log is empty.*--driver-memory 4g"):
        run_stage(replace(context, spark=dead), Ledger(context.lake, context.run_id), broken)


def test_the_stages_pass_on_what_they_need():
    """Every table that a stage reads was written by an earlier one, and every table of a night has its writer."""
    written = {}
    for stage in STAGES:
        assert [table for table in stage.reads if table not in written] == [], stage.name
        written |= {table: stage.name for table in stage.writes}
    of_requests = {"serving.scores", "serving.top_items"}
    assert set(declared_tables()) - set(written) == {"ops.runs"} | of_requests
