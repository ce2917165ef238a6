"""Finished trainings in MLflow: parameters, curves and the measures of the kept epoch."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from akt_spark.config import TrainingConfig
from akt_spark.errors import AktError
from akt_spark.extras import require_extra
from akt_spark.training.checkpoint import Checkpoint

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "training.mlflow"
EXPERIMENT = "akt_spark"
TAG = "akt_spark.training"
METRICS_A_CALL = 1000  # MLflow takes no more


def log_finished(uri: str, settings: TrainingConfig, checkpoints: Iterable[tuple[str, Checkpoint]]) -> int:
    """Adds the trainings that MLflow does not have yet, each as a run, and returns how many they were.

    A run carries run id and hash of its training as a tag, so that a job that is run again adds nothing. One that was
    killed while it was added stays in MLflow as running, and is added again.

    Args:
        uri: of the tracking server.
        settings: the parameters of all trainings.
        checkpoints: model folders, with what they say.

    Raises:
        ConfigError: when MLflow is not installed.
        AktError: when the server does not answer, or refuses.
    """
    require_extra("mlflow", KEY)
    from mlflow import MlflowClient, MlflowException

    try:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        number = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
        return sum(_added(client, number, Path(path).parent, settings, checkpoint) for path, checkpoint in checkpoints)
    except MlflowException as error:
        raise AktError(
            f"{KEY} is {uri}: {error}; the rankers are trained and kept: run the job again, or set {KEY}: null"
        ) from error


def _added(
    client: MlflowClient, experiment: str, training: Path, settings: TrainingConfig, checkpoint: Checkpoint
) -> bool:
    """Adds a training, unless it is there."""
    from mlflow.entities import Metric, Param

    name = f"{training.parent.name}/{training.name}"
    if client.search_runs([experiment], f"tags.`{TAG}` = '{name}' and attributes.status = 'FINISHED'"):
        return False
    run = client.create_run(experiment, run_name=name, tags={TAG: name}).info.run_id
    known = {"variant": checkpoint.variant, "seed": checkpoint.seed, "config_hash": checkpoint.config_hash}
    known |= {"parameters": checkpoint.parameters, "kept_epoch": checkpoint.epoch}
    known |= {f"model.{key}": value for key, value in checkpoint.model.items()}
    known |= {f"training.{key}": value for key, value in settings.model_dump(mode="json").items()}
    client.log_batch(run, params=[Param(key, str(value)) for key, value in known.items()])
    kept = [(checkpoint.step, f"kept_{metric}", value) for metric, value in checkpoint.metrics.items()]
    now, points = int(time.time() * 1000), [*checkpoint.curve, *checkpoint.timings, *kept]
    for first in range(0, len(points), METRICS_A_CALL):
        some = points[first : first + METRICS_A_CALL]
        client.log_batch(run, metrics=[Metric(metric, value, now, step) for step, metric, value in some])
    client.set_terminated(run)
    return True
