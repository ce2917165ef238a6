"""Trainings in TensorBoard and MLflow. Both are extras: without them these tests are skipped, and say so."""

from dataclasses import replace
from pathlib import Path

import pytest

from akt_spark import extras
from akt_spark.errors import AktError, ConfigError
from akt_spark.training import ranks, train
from akt_spark.training.checkpoint import read_checkpoint
from akt_spark.training.exchange import InlineCommunicator
from akt_spark.training.mlflow_log import EXPERIMENT, log_finished


def with_settings(plan, **settings):
    return replace(plan, settings=plan.settings.model_copy(update=settings))


@pytest.mark.parametrize("extra", ["tensorboard", "mlflow"])
def test_a_package_that_is_missing_is_named_with_the_remedy(context, monkeypatch, extra) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    settings = context.config.training.model_copy(update={extra: "somewhere"})
    context = replace(context, config=context.config.model_copy(update={"training": settings}))
    with pytest.raises(ConfigError, match=rf"training.{extra} is set.*uv sync --extra {extra}.*training.{extra}: null"):
        train.run(context)


class Killed(Exception):
    pass


def test_tensorboard_shows_the_curves_of_a_training_that_was_killed_once(plan, tmp_path, monkeypatch) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plan = with_settings(plan, tensorboard=str(tmp_path / "board"), progress_seconds=1e-9, checkpoint_steps=2)
    step = ranks.Trainer.train_step

    def killed(self, batches):
        if self.step == 8:
            raise Killed
        step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(ranks.Trainer, "train_step", killed)
        with pytest.raises(Killed):
            ranks.train_all(InlineCommunicator(), plan)
    training = Path(plan.trainings[0].folder)
    (run,) = (tmp_path / "board" / training.parent.name).iterdir()
    assert run.name == training.name
    assert shown(EventAccumulator, run)["loss"]  # while it runs
    ranks.train_all(InlineCommunicator(), plan)
    checkpoint, curves = read_checkpoint(training / "model"), {}
    for at, name, value in [*checkpoint.curve, *checkpoint.timings]:
        curves.setdefault(name, []).append((at, pytest.approx(value)))
    assert shown(EventAccumulator, run) == curves


def shown(accumulator, run: Path) -> dict[str, list[tuple[int, float]]]:
    events = accumulator(str(run))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_mlflow_gets_every_training_once(plan, tmp_path, monkeypatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a server's client, without a server
    uri = f"file://{tmp_path}/mlruns"
    ranks.train_all(InlineCommunicator(), plan)
    model = Path(plan.trainings[0].folder, "model")
    checkpoint = read_checkpoint(model)
    trained = [(str(model), checkpoint)]
    assert log_finished(uri, plan.settings, trained) == 1
    assert log_finished(uri, plan.settings, trained) == 0
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert run.info.status == "FINISHED"
    assert (run.data.params["variant"], run.data.params["training.batch_size"]) == ("akt_rec", "32")
    assert run.data.params["model.dim"] == "4"
    assert run.data.metrics["kept_validation_auc"] == checkpoint.metrics["validation_auc"]
    curve = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss")]
    assert curve == [(step, value) for step, name, value in checkpoint.curve if name == "loss"]
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "false")
    with pytest.raises(AktError, match=r"training.mlflow is file://.*rankers are trained and kept: run the job"):
        log_finished(f"{uri}-elsewhere", plan.settings, trained)
