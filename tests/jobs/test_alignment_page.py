"""The commands of docs/alignment.md, by spark-submit, on the lake of a night."""

import shutil

import deltalake
import pytest
import readme
from jobs_night import DS, run

PAGE = "docs/alignment.md"


@pytest.mark.night
def test_the_page_s_commands_use_the_night_s_encoder_again_and_train_one_by_lora(night, tmp_path):
    lake = tmp_path / "lake"
    shutil.copytree(night.lake, lake)
    head, lora = readme.commands(PAGE)

    def type_in(line, **options):
        words = readme.command(line, {"--conf-file": str(night.config), "--ds": DS}, PAGE)
        small = [word for key, value in options.items() for word in ("--set", f"alignment.{key}={value}")]
        done = run(*words, "--set", f"lake.root={lake}", *small)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "is used again" in type_in(head, refresh_days=31)
    said = type_in(lora, max_pairs=1500)
    assert "alignment lora, epoch 1" in said and "with the encoder tuned" in said, said
    encoders = deltalake.DeltaTable(str(lake / "content/encoders")).to_pandas()
    assert {"raw", "aligned", "tuned"} <= set(encoders[encoders.entity == "item"].stage)
