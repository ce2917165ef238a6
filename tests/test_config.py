"""The configuration is strict and says what is wrong."""

from datetime import date
from pathlib import Path

import pytest
import yaml

from akt_spark.conf_file import default_yaml, load
from akt_spark.config import Config, SplitConfig
from akt_spark.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parent.parent


def test_default_yaml_is_the_defaults():
    shipped = (REPOSITORY / "conf/default.yaml").read_text()
    assert shipped == default_yaml(), "regenerate: python -m akt_spark.conf_file > conf/default.yaml"
    assert load(REPOSITORY / "conf/default.yaml") == Config()


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("conf/*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_loads(path):
    load(path)


def test_sections_are_merged_with_the_defaults():
    config = load(None, ["semantic.item.steps=3", "segments.user.rule=quantile"])
    assert config.semantic.item.steps == 3
    assert config.semantic.item.sizes == Config().semantic.item.sizes
    assert config.segments.user.tail_below == 5


def test_another_kind_of_quantiser_keeps_the_other_defaults():
    config = load(None, ["semantic.item.kind=rqkmeans"])
    assert config.semantic.item == Config().semantic.item.model_copy(update={"kind": "rqkmeans"})


def test_numbers_may_be_written_with_an_exponent():
    assert load(None, ["training.learning_rate=3e-3"]).training.learning_rate == 0.003


def test_the_day_of_a_run_is_its_name():
    assert load(None, ["serving.run=2018-09-24"]).serving.run == "2018-09-24"
    assert load(None, ["serving.run=2018-09-24-main"]).serving.run == "2018-09-24-main"


def test_variants_are_replaced_not_merged():
    config = load(None, ["ranker.variants={base: {transfer: false}}"])
    assert list(config.ranker.variants) == ["base"]
    assert config.ranker.variant("base").transfer is False


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("lake.rot=x", ["lake.rot", "'x'", "root"]),
        ("ledger.x=1", ["ledger", "allowed here", "lake"]),
        ("split.test_days=0", ["split.test_days", "greater than 0", "value 0"]),
        ("training.ranks=two", ["training.ranks", "integer", "'two'"]),
        ("training.ranks='2'", ["training.ranks", "integer", "'2'"]),
        ("features.ctr_prior=1.5", ["features.ctr_prior", "less than or equal to 1", "1.5"]),
        ("features.history_events=[clicks]", ["features.history_events", "clicks", "purchase"]),
        ("source.kind=netflix", ["source", "netflix", "movielens"]),
        ("source={kind: folder}", ["source.path", "required"]),
        ("ranker.variants={base: {dmi: 3}}", ["variants.base", "dmi", "cluster_mode"]),
        ("ranker.model.cluster_mode=both", ["ranker.model.cluster_mode", "both", "hybrid"]),
        ("semantic.item.sizes=some", ["semantic.item.sizes", "auto", "'some'"]),
        ("semantic.item.sizes=[]", ["semantic.item.sizes", "at least 1"]),
        ("semantic.item.sinkhorn_levels=[4]", ["sinkhorn_levels [4]", "3 levels"]),
        ("semantic.user.kind=category", ["users have none", "rqkmeans"]),
        ("evaluation.reference=din", ["evaluation.reference", "din", "base"]),
        (
            "ranker.variants={base: {codes: kmeans}}",
            ["variants.base", "'kmeans'", "semantic, random", "samples.codebooks"],
        ),
        ("samples.codebooks={random: v1}", ["samples", "codebooks: random is no free name"]),
        ("encoder.family=qwen_vl", ["encoder", "qwen_vl needs model", "folder"]),
        ("encoder.model=some/folder", ["encoder", "model ('some/folder')", "qwen_vl only", "minilm_vl"]),
        ("encoder.pooling=mean", ["pooling ('mean')", "qwen_vl only"]),
        ("encoder={family: qwen_vl, model: m, image_size: 64}", ["image_size (64)", "minilm_vl only"]),
        ("encoder={family: qwen_vl, model: m, prompt: '{image}'}", ["prompt must hold {text} once, not 0 times"]),
        ("encoder={family: qwen_vl, model: m, prompt: '{text}'}", ["prompt must hold {image} once, not 0 times"]),
        ("encoder={family: qwen_vl, model: m, max_pixels: 99}", ["min_pixels (3136)", "max_pixels (99)"]),
        ("encoder={gpus_per_task: 1.0, device: cpu}", ["device (cpu) must be auto", "gpus_per_task"]),
        ("alignment.statistics=true", ["statistics needs method: lora"]),
        ("alignment.pair_events=[impression]", ["alignment.pair_events", "impression", "purchase"]),
        ("alignment.pair_history=1001", ["alignment.pair_history", "1000", "1001"]),
        ("encoder.device=gpu", ["encoder.device", "'gpu'"]),
        ("encoder.dtype=int8", ["encoder.dtype", "int8", "bfloat16"]),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(override, named):
    with pytest.raises(ConfigError) as error:
        load(None, [override])
    assert error.value.exit_code == 2
    for words in named:
        assert words in str(error.value)


@pytest.mark.parametrize("override", ["lake.root", "=x", "lake..root=x", "lake.root=[", "lake.root.deep=1"])
def test_a_malformed_override_is_refused(override):
    with pytest.raises(ConfigError):
        load(None, [override])


def test_a_missing_file_and_a_broken_file_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.yaml does not exist"):
        load(tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("lake: [")
    with pytest.raises(ConfigError, match=r"broken.yaml is not valid YAML"):
        load(broken)
    broken.write_text(yaml.safe_dump(["lake"]))
    with pytest.raises(ConfigError, match="must hold sections"):
        load(broken)


def test_the_split_is_counted_back_from_ds():
    split = SplitConfig(validation_days=1, test_days=5)
    assert split.validation_end(date(2020, 9, 22)) == date(2020, 9, 17)
    assert split.train_end(date(2020, 9, 22)) == date(2020, 9, 16)
