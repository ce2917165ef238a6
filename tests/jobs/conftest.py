"""The README's shop night, smaller, by a real spark-submit: the tests of the jobs look at what it left."""

from __future__ import annotations

import pytest
import readme
import yaml
from jobs_night import DS, REPOSITORY, VARIANTS, Night, run


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """The README's two commands, with fewer users, items and variants, other folders and a shorter training."""
    folder = tmp_path_factory.mktemp("night")
    shop = {"--out": str(folder / "shop"), "--users": "250", "--items": "250", "--groups": "12"}
    made = run(*readme.command("python -m akt_spark.sources.shop", shop))
    assert made.returncode == 0, made.stdout + made.stderr

    values = yaml.safe_load((REPOSITORY / "conf/shop.yaml").read_text())
    values["source"]["path"] = str(folder / "shop")
    values["lake"] = {"root": str(folder / "lake")}
    values["report"] = {"path": str(folder / "report")}
    values["semantic"]["item"]["steps"] = values["semantic"]["user"]["steps"] = 200
    # with 250 users a few active ones decide the clusters; encoders of two runs differ in their last digits, and with
    # them the head coverage of so small codebooks: of items 1 or .89, of users above .1 or .08
    values["semantic"]["item_gate"] = {"min_head_coverage": 0.5}
    values["semantic"]["user_gate"] = {"min_head_coverage": 0.0, "max_largest_bucket": 0.8}
    values["alignment"] = {"epochs": 4}
    values["interest"] = {"epochs": 3, "min_variance_ratio": 0.05}
    values["training"] = {"epochs": 2, "batch_size": 128}
    defaults = yaml.safe_load((REPOSITORY / "conf/default.yaml").read_text())["ranker"]["variants"]
    values["ranker"] = {"variants": {name: defaults[name] for name in VARIANTS}}
    interpreted = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
    values["spark"] = {"settings": interpreted}
    (folder / "night.yaml").write_text(yaml.safe_dump(values))
    command = readme.command("spark-submit jobs/nightly.py --conf-file conf/shop.yaml", {"--ds": DS})
    finished = run(*[str(folder / "night.yaml") if word == "conf/shop.yaml" else word for word in command])
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return Night(folder, finished.stdout)
