"""The commands of docs/publishing.md, by spark-submit, on a lake with a second codebook."""

import shutil

import deltalake
import pandas as pd
import pytest
import readme
from jobs_night import DS, run, run_until_killed, submit

PAGE = "docs/publishing.md"


@pytest.mark.night
def test_a_codebook_is_listed_compared_promoted_and_rolled_back_as_the_page_says(night, tmp_path):
    lake = tmp_path / "lake"
    shutil.copytree(night.lake, lake)
    another = ("--set", "semantic.item.seed=5", "--set", "semantic.promotion=manual", "--set", f"lake.root={lake}")
    fitted = submit("jobs/build_semantic_ids.py", "--conf-file", str(night.config), "--ds", DS, *another)
    assert fitted.returncode == 0, fitted.stdout + fitted.stderr
    before = {row.status: row.codebook_version for row in books(lake).itertuples()}
    assert set(before) == {"published", "candidate"}

    def type_in(action, **options):
        options = {"--conf-file": str(night.config)} | options
        words = readme.command(f"spark-submit jobs/semantic_ids.py {action}", options, PAGE)
        done = run(*words, "--set", f"lake.root={lake}")
        return done.returncode, done.stdout + done.stderr

    code, said = type_in("list")
    assert code == 0 and all(version in said for version in before.values()), said
    code, said = type_in("compare")
    assert code == 0 and f"{before['published']} (published) and {before['candidate']} (candidate)" in said, said
    code, said = type_in("promote")  # the page's own example version
    assert code == 2 and "have no codebook 20180924-0f3a9c1b; there is" in said, said
    code, said = type_in("promote", **{"--version": before["candidate"]})
    assert code == 0 and f"{before['candidate']} is published instead of {before['published']}" in said, said
    code, said = type_in("rollback")
    assert code == 0 and f"{before['published']} is published again" in said, said
    assert set(books(lake).query("status == 'published'").codebook_version) == {before["published"]}
    code, said = type_in("rollback")
    assert code == 3 and "was published before" in said, said


@pytest.mark.night
@pytest.mark.parametrize("at", ["fitting a codebook of items", "step 60/200", "fitting a codebook of users"])
def test_semantic_ids_that_are_killed_on_the_way_are_finished_by_the_next_run(night, tmp_path, at):
    """With SIGKILL: before the fit of items, in it, and when those of items are out and those of users are not."""
    lakes = [tmp_path / "killed", tmp_path / "whole"]
    other = ("--set", "semantic.item.seed=5", "--set", "semantic.user.seed=5")
    jobs = []
    for lake in lakes:
        shutil.copytree(night.lake, lake)
        jobs.append(["jobs/build_semantic_ids.py", "--conf-file", str(night.config), "--ds", DS])
        jobs[-1] += ["--set", f"lake.root={lake}", *other]
    before = published(lakes[0], "user")
    run_until_killed(jobs[0], at)
    assert published(lakes[0], "user") == before
    for job in jobs:
        done = submit(*job)
        assert done.returncode == 0, done.stdout + done.stderr
    for entity in ("item", "user"):
        (killed, whole) = (ids(lake, entity) for lake in lakes)
        pd.testing.assert_frame_equal(killed, whole)
        assert published(lakes[0], entity) == published(lakes[1], entity) != before


def ids(lake, entity):
    table = deltalake.DeltaTable(str(lake / f"semantic/{entity}_ids")).to_pandas()
    return table.sort_values(["codebook_version", f"{entity}_id"], ignore_index=True)


def published(lake, entity):
    return set(books(lake, entity).query("status == 'published'").codebook_version)


def books(lake, entity="item"):
    table = deltalake.DeltaTable(str(lake / "semantic/codebooks")).to_pandas()
    return table[table.entity == entity]
