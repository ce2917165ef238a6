from __future__ import annotations

from types import SimpleNamespace

import pytest
from pyspark.resource import ResourceInformation

from akt_spark.config import EncoderConfig
from akt_spark.content import resources
from akt_spark.content.resources import embedding_profile, task_device
from akt_spark.errors import ConfigError


def session(master: str) -> SimpleNamespace:
    return SimpleNamespace(sparkContext=SimpleNamespace(master=master))


def test_the_stage_asks_for_the_configured_share_of_a_gpu(spark):
    profile = embedding_profile(session("spark://host:7077"), EncoderConfig(gpus_per_task=0.5))
    requests = profile.taskResources
    assert requests["gpu"].amount == 0.5
    assert requests["cpus"].amount == 1
    assert not profile.executorResources  # it schedules on the GPUs that executors have


def test_no_gpu_means_no_profile(spark):
    assert embedding_profile(spark, EncoderConfig()) is None


def test_gpus_on_a_local_master_are_a_configuration_error(spark):
    with pytest.raises(ConfigError, match=r"gpus_per_task is 1, but the master is local\[2\]"):
        embedding_profile(spark, EncoderConfig(gpus_per_task=1.0))


@pytest.mark.parametrize(("given", "device"), [({"gpu": ResourceInformation("gpu", ["3"])}, "cuda:3"), ({}, "cpu")])
def test_a_task_uses_the_gpu_that_spark_gave_it(monkeypatch, given, device):
    context = SimpleNamespace(get=lambda: SimpleNamespace(resources=lambda: given))
    monkeypatch.setattr(resources, "TaskContext", context)
    assert task_device() == device
    assert task_device("cuda:1") == "cuda:1"  # unless the configuration names one


@pytest.mark.parametrize(("there", "device"), [(True, "cuda"), (False, "cpu")])
def test_the_driver_trains_on_its_gpu_where_it_has_one(monkeypatch, there, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    assert task_device() == device
    assert task_device("cpu") == "cpu"
