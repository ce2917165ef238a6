"""One night of the synthetic shop, by a real spark-submit, that the tests of the jobs look at."""

from __future__ import annotations

from datetime import date

import pytest
import yaml
from jobs_night import DS, REPOSITORY, Night, submit
from pyspark.sql import SparkSession

from akt_spark.sources.shop import ShopSize, generate


@pytest.fixture(scope="session")
def night(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Night:
    folder = tmp_path_factory.mktemp("night")
    generate(spark, folder / "shop", ShopSize(users=250, items=250, days=20), seed=1, start=date(2024, 3, 1))
    values = yaml.safe_load((REPOSITORY / "conf/shop.yaml").read_text())
    values["source"]["path"] = str(folder / "shop")
    values["lake"] = {"root": str(folder / "lake")}
    values["report"] = {"path": str(folder / "report")}
    values["semantic"]["item"]["steps"] = values["semantic"]["user"]["steps"] = 200
    # 250 users make clusters by chance: their gate is for companies; that of items stays
    values["semantic"]["user_gate"] = {"min_head_coverage": 0.1, "max_largest_bucket": 0.8}
    values["alignment"] = {"epochs": 4}
    values["interest"] = {"epochs": 3, "min_variance_ratio": 0.05}
    values["training"] = {"epochs": 2, "batch_size": 128}
    values["spark"] = {"settings": {"spark.sql.codegen.wholeStage": "false"}}
    (folder / "night.yaml").write_text(yaml.safe_dump(values))
    finished = submit("jobs/nightly.py", "--conf-file", str(folder / "night.yaml"), "--ds", DS)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return Night(folder, finished.stdout)
