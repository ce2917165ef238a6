"""docs/your_own_logs.md does what it says: its files, its mapping and its preview always, its whole way at night."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import readme
from jobs_night import REPOSITORY, run

from akt_spark.conf_file import load
from akt_spark.sources.preview import preview
from akt_spark.sources.shop_catalogue import draw_items
from akt_spark.sources.shop_traffic import draw_events, draw_users
from akt_spark.sources.shop_world import ShopSize, World

PAGE = "docs/your_own_logs.md"
DS = date(2024, 1, 20)


def _here(text: str, folder: Path) -> str:
    """The page writes into .my_logs of the repository, a test into its own folder."""
    return text.replace(".my_logs", str(folder))


def _write_mapping(folder: Path) -> Path:
    (mapping,) = readme.blocks("yaml", PAGE)
    file = folder / "logs.yaml"
    file.write_text(_here(mapping, folder))
    return file


def _export(folder: Path) -> None:
    (program,) = readme.blocks("python", PAGE)
    exec(compile(_here(program, folder), PAGE, "exec"), {})


def _small_shop(folder: Path) -> None:
    """What the page's shop command writes, smaller and without Spark."""
    folder.mkdir()
    world, start = World(ShopSize(users=30, items=20, groups=4), seed=1), date(2024, 1, 1)
    draw_items(world, 0, start).to_parquet(folder / "items.parquet")
    draw_users(world, 0)[["user_id", "profile"]].to_parquet(folder / "users.parquet")
    events = draw_events(world, 0)
    events["event_time"] = pd.Timestamp(start) + pd.to_timedelta(events["second"], unit="s")
    events.to_parquet(folder / "events.parquet")


def test_the_page_and_the_commands_agree():
    jobs = [command.split() for command in readme.commands(PAGE) if command.startswith("spark-submit")]
    assert all((REPOSITORY / words[1]).is_file() for words in jobs)
    assert {words[words.index("--ds") + 1] for words in jobs} == {DS.isoformat()}
    assert jobs[0][-1] == "--dry-run" and jobs[-1][1] == "jobs/build_semantic_ids.py"


def test_the_pages_mapping_understands_the_pages_files(spark, tmp_path):
    _small_shop(tmp_path / "shop")
    _export(tmp_path)
    text = "\n".join(preview(spark, load(_write_mapping(tmp_path)), DS))
    for words in ("ITEMS  20 rows", "USERS  30 rows", "material: ", "bytes", "not used: warehouse"):
        assert words in text
    for rejected in ("line malformed", "left out: scroll", "unknown: hover", "event_time missing or unreadable"):
        assert f"1  {rejected}" in text.replace("event_type ", "")
    assert "rejected    4 rows" in text


@pytest.mark.night
def test_the_page_leads_from_files_to_semantic_ids(spark, tmp_path, named):
    _write_mapping(tmp_path)
    made, *jobs = [command for command in readme.commands(PAGE) if not command.startswith("source ")]
    for command in (made, None, *jobs):
        if command is None:
            _export(tmp_path)
            continue
        done = run(*_here(command, tmp_path).split())
        assert done.returncode == 0, done.stdout + done.stderr
    named(str(tmp_path / "lake"))
    for query in readme.blocks("sql", PAGE):
        assert spark.sql(query).count() > 0, query
    assert spark.sql("SELECT count(*) FROM semantic.item_ids").head()[0] == 400
