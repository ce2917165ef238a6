from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from akt_spark.conf_file import load
from akt_spark.config import Config
from akt_spark.content.registry import EncoderRecord, record
from akt_spark.errors import DataError, HealthGateError, MissingInput
from akt_spark.lake import Lake
from akt_spark.semantic import commands
from akt_spark.semantic import fit as fitting
from akt_spark.semantic.ids import ids_of
from akt_spark.semantic.publish import publish, run
from akt_spark.semantic.versions import codebooks, published_version
from akt_spark.stage import Context, Outcome

from .planted import planted

DS = date(2024, 1, 31)
DIM, ITEMS, USERS = 8, 160, 80
TINY = (
    "sizes: [8, 4], hidden: [16], latent_dim: 4, batch_size: 64, learning_rate: 0.01, "
    "warmup_steps: 100, steps: 150, dead_code_steps: 10"
)
ITEM_VECTORS = planted(ITEMS + 20, DIM, 8, seed=1)[0]
USER_VECTORS = planted(USERS, DIM, 8, seed=2)[0]


def configuration(root: Path, *overrides: str) -> Config:
    sizes = [f"semantic.{entity}={{{TINY}}}" for entity in ("item", "user")]
    return load(None, [f"lake.root={root / 'lake'}", *sizes, *overrides])


@pytest.fixture(scope="module")
def embedded(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with embeddings of 160 items (and four more that are no use) and 80 users, half of them teachers."""
    root = tmp_path_factory.mktemp("embedded")
    lake = Lake(spark, str(root / "lake"))
    useless = [None, [1.0] * 3, [float("nan")] * DIM, [float("inf")] * DIM]
    encode(lake, "item", "item-1", [*ITEM_VECTORS[:ITEMS], *useless])
    encode(lake, "user", "user-1", USER_VECTORS)
    for entity, count in (("item", ITEMS + 20), ("user", USERS)):
        day = DS - timedelta(days=20)
        days = {"ds": day, "first_ds": day, "last_ds": day}
        counts = dict.fromkeys(("clicks", "carts", "purchases", "active_days"), 1)
        names = [f"{entity}{n:03d}" for n in range(count)]
        fill(lake, f"features.{entity}_index", [{f"{entity}_id": name, "idx": n + 1} for n, name in enumerate(names)])
        rows = [{f"{entity}_id": name, "impressions": 200 if n % 2 else 1} for n, name in enumerate(names)]
        fill(lake, f"features.{entity}_activity", [row | days | counts for row in rows])
    items = [{"item_id": f"item{n:03d}", "category": ["film", f"genre {n % 3}"]} for n in range(ITEMS + 20)]
    pairs = [{"item_id": f"item{n:03d}", "positive_id": f"item{n + 1:03d}"} for n in range(0, ITEMS, 2)]
    fill(lake, "content.item_pairs", [pair | {"together": 1, "score": 1.0, "held_out": True} for pair in pairs])
    fill(lake, "bronze.items", [item | {"title": "t", "content_hash": "h"} for item in items])
    return root


@pytest.fixture(scope="module")
def first_night(spark: SparkSession, embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The same lake after its first run, and what that run said."""
    root = tmp_path_factory.mktemp("published") / "copy"
    shutil.copytree(embedded, root)
    return root, run(context_of(spark, root))


@pytest.fixture
def published(spark: SparkSession, first_night: tuple[Path, Outcome], tmp_path: Path) -> Context:
    shutil.copytree(first_night[0], tmp_path / "copy")
    return context_of(spark, tmp_path / "copy")


@pytest.fixture
def unpublished(spark: SparkSession, embedded: Path, tmp_path: Path) -> Context:
    shutil.copytree(embedded, tmp_path / "copy")
    return context_of(spark, tmp_path / "copy")


def context_of(spark: SparkSession, root: Path) -> Context:
    return Context(spark, Lake(spark, str(root / "lake")), configuration(root), DS, "20240131-test")


def run_items(ctx: Context) -> Outcome:
    outcome = Outcome()
    publish(ctx, "item", outcome)
    return outcome


def fill(lake: Lake, table: str, rows: list[dict]) -> None:
    """Merges rows into a table; columns that are not given are null."""
    schema = lake.schema(table)
    values = [tuple(row.get(name) for name in schema.names) for row in rows]
    lake.merge(table, lake.spark.createDataFrame(values, schema))


def encode(lake: Lake, entity: str, revision: str, vectors: Iterable, first: int = 0) -> None:
    """Registers an encoder and adds its vectors of ids from number ``first`` on."""
    day = DS - timedelta(days=9)
    record(lake, EncoderRecord(revision, entity, "aligned", "test", None, None, DIM, day, "hash", {}, day))
    rows = [
        {
            f"{entity}_id": f"{entity}{n:03d}",
            "revision": revision,
            "content_hash": f"h{n}{None if vector is None else vector[0]}",
            "as_of": day,
            "vector": None if vector is None else [float(x) for x in vector],
            "error": "test" if vector is None else None,
            "clicks": 1,
        }
        for n, vector in enumerate(vectors, start=first)
    ]
    fill(lake, f"content.{entity}_embeddings", rows)


def published_rows(lake: Lake, entity: str) -> list[Row]:
    rows = lake.read(f"semantic.{entity}_ids").where(F.col("codebook_version") == published_version(lake, entity))
    return rows.orderBy(f"{entity}_id").collect()


def published_book(lake: Lake) -> Row:
    return lake.read("semantic.codebooks").where("entity = 'item' AND status = 'published'").head()


def statuses(lake: Lake, entity: str) -> dict[str, str]:
    rows = lake.read("semantic.codebooks").where(F.col("entity") == entity).collect()
    return {row["codebook_version"]: row["status"] for row in rows}


def measured_versions(lake: Lake, run_id: str) -> set[str]:
    rows = lake.read("semantic.health").where((F.col("run_id") == run_id) & (F.col("entity") == "item"))
    return {row["codebook_version"] for row in rows.select("codebook_version").distinct().collect()}


def test_a_first_night_gives_every_usable_vector_an_id(
    spark: SparkSession, first_night: tuple[Path, Outcome], unpublished: Context
) -> None:
    with pytest.raises(
        MissingInput, match=r"semantic\.codebooks has no published codebook of items.*build_semantic_ids"
    ):
        published_version(unpublished.lake, "item")
    root, outcome = first_night
    lake = context_of(spark, root).lake
    assert len(published_rows(lake, "item")) == ITEMS
    assert len(published_rows(lake, "user")) == USERS
    assert (outcome.rows_in, outcome.rows_out) == (ITEMS + 4 + USERS, ITEMS + USERS)
    notes = "\n".join(outcome.notes)
    assert "in quarantine: 1 missing, 1 not of length 8, 2 with NaN, infinity or null inside" in notes
    assert notes.count("new codebook 20240131-") == 2


def test_vectors_that_are_of_no_use_are_in_quarantine_and_counted(
    spark: SparkSession, first_night: tuple[Path, Outcome]
) -> None:
    root, outcome = first_night
    rows = context_of(spark, root).lake.read("bronze.quarantine").collect()
    assert outcome.quarantined == len(rows) == 4
    assert {row["source"] for row in rows} == {"content.item_embeddings"}
    reasons = {json.loads(row["row_json"])["id"]: row["reason"] for row in rows}
    assert reasons["item160"] == "vector missing"
    assert reasons["item161"] == "vector not of length 8"
    assert reasons["item162"] == reasons["item163"] == "vector with NaN, infinity or null inside"


def test_every_run_writes_its_health(spark: SparkSession, first_night: tuple[Path, Outcome]) -> None:
    health = context_of(spark, first_night[0]).lake.read("semantic.health").where("run_id = '20240131-test'").collect()
    metrics = {entity: {row["metric"] for row in health if row["entity"] == entity} for entity in ("item", "user")}
    assert {"coverage", "aliasing", "head_coverage", "capacity_tail", "fan_out", "near_ties"} <= metrics["user"]
    assert metrics["item"] - metrics["user"] == {"purity", "nmi", "co_occurrence_recall"}  # users have no category
    controls = {"item": {"none", "random", "category"}, "user": {"none", "random"}}
    alone = {("coverage", 1), ("coverage", 2), ("near_ties", 1)}  # nothing to compare: see semantic/clusters.py
    for entity, expected in controls.items():
        found = defaultdict(set)
        for row in health:
            if row["entity"] == entity:
                found[row["metric"], row["level"]].add(row["control"])
        kinds = {place: {"none"} for place in alone}
        kinds |= {("unexplained_variance", level): {"none", "random"} for level in (1, 2)}  # a leaf has no levels
        assert {place: of for place, of in found.items() if of != (kinds.get(place) or expected)} == {}
    assert {row["codebook_version"] for row in health if row["entity"] == "item"} == set(
        statuses(context_of(spark, first_night[0]).lake, "item")
    )


def test_later_nights_move_no_published_id(published: Context) -> None:
    lake = published.lake
    items, users = published_rows(lake, "item"), published_rows(lake, "user")
    changed, new = -ITEM_VECTORS[:10], ITEM_VECTORS[ITEMS:]
    encode(lake, "item", "item-1", changed)
    encode(lake, "item", "item-1", new, first=ITEMS)
    outcome = run(replace(published, ds=DS + timedelta(days=1), run_id="20240201-test"))
    later = published_rows(lake, "item")
    assert [row for row in later if row["assigned_ds"] == DS] == items  # every row, to the last bit
    added = [row["item_id"] for row in later if row["assigned_ds"] > DS]
    assert added == [f"item{n}" for n in range(ITEMS, ITEMS + 20)]
    assert published_rows(lake, "user") == users
    assert outcome.rows_out == 20
    assert "10 IDs keep what they got from earlier content" in "\n".join(outcome.notes)
    assert list(statuses(lake, "item").values()) == ["published"]


@pytest.mark.night
def test_no_more_items_share_an_id_than_may_and_later_ones_find_room_beside_them(unpublished: Context) -> None:
    lake, most = unpublished.lake, 6
    few = replace(unpublished, config=configuration(Path(lake.root).parent, f"semantic.item.max_per_sid={most}"))
    run_items(few)
    first = published_rows(lake, "item")
    encode(lake, "item", "item-1", ITEM_VECTORS[ITEMS + 4 :], first=ITEMS + 4)
    run_items(replace(few, ds=DS + timedelta(days=1), run_id="later"))
    later = published_rows(lake, "item")
    assert len(later) == len(first) + 16
    assert [row for row in later if row["assigned_ds"] == DS] == first
    last_codes = published_book(lake)["sizes"][-1]
    for rows in (first, later):
        clusters = Counter(tuple(row["codes"][:-1]) for row in rows)
        full = {cluster for cluster, items in clusters.items() if items > last_codes * most}
        sizes = Counter(row["sid"] for row in rows if tuple(row["codes"][:-1]) not in full)
        assert max(sizes.values()) == most


@pytest.mark.night
def test_a_codebook_below_its_gate_publishes_nothing_and_a_better_one_takes_over(published: Context) -> None:
    lake = published.lake
    before, version = published_rows(lake, "item"), published_version(lake, "item")
    encode(lake, "item", "item-2", ITEM_VECTORS[ITEMS - 100 :])
    strict = configuration(Path(lake.root).parent, "semantic.item_gate.max_unexplained_variance=0.0001")
    with pytest.raises(
        HealthGateError, match=rf"(?s){version} stays published.*max_unexplained_variance 0\.0001"
    ) as caught:
        run_items(replace(published, config=strict, run_id="strict"))
    assert caught.value.exit_code == 3
    assert published_rows(lake, "item") == before
    assert lake.read("semantic.item_ids").count() == len(before)  # not even rows of the candidate
    assert sorted(statuses(lake, "item").values()) == ["candidate", "published"]
    of_the_codebook = "run_id = 'strict' AND metric = 'unexplained_variance' AND level = 0 AND control = 'none'"
    assert lake.read("semantic.health").where(of_the_codebook).count() == 1
    run_items(replace(published, run_id="relaxed"))
    assert len(published_rows(lake, "item")) == 120
    assert sorted(statuses(lake, "item").values()) == ["published", "retired"]
    assert statuses(lake, "item")[version] == "retired"
    kept = lake.read("semantic.item_ids").where(F.col("codebook_version") == version).orderBy("item_id").collect()
    assert kept == before


@pytest.mark.night
def test_a_codebook_that_another_run_publishes_during_the_fit_stays_published(
    unpublished: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, fit = unpublished.lake, fitting.fit

    def overtaken(*args: object) -> fitting.Fitted:
        monkeypatch.setattr(fitting, "fit", fit)
        run_items(replace(unpublished, run_id="faster"))  # the same vectors and configuration: the same version
        return fit(*args)

    monkeypatch.setattr(fitting, "fit", overtaken)
    strict = configuration(Path(lake.root).parent, "semantic.item_gate.max_unexplained_variance=0.0001")
    with pytest.raises(HealthGateError):
        run_items(replace(unpublished, config=strict, run_id="slower"))
    assert list(statuses(lake, "item").values()) == ["published"]
    assert len(published_rows(lake, "item")) == ITEMS


@pytest.mark.night
def test_a_candidate_below_its_gate_keeps_no_new_item_from_the_published_codebook(published: Context) -> None:
    lake, version = published.lake, published_version(published.lake, "item")
    before = {row["item_id"]: row for row in published_rows(lake, "item")}
    encode(lake, "item", "item-1", -ITEM_VECTORS[:10])
    encode(lake, "item", "item-1", ITEM_VECTORS[ITEMS + 4 :], first=ITEMS + 4)  # the four of no use stay
    strict = ("semantic.item.seed=5", "semantic.item_gate.max_unexplained_variance=0.0001")
    reassign = configuration(Path(lake.root).parent, *strict, "semantic.item_changed_content=reassign")
    with pytest.raises(HealthGateError):
        run_items(replace(published, config=reassign, ds=DS + timedelta(days=1), run_id="strict"))
    after = {row["item_id"]: row for row in published_rows(lake, "item")}
    assert after.keys() - before.keys() == {f"item{n}" for n in range(ITEMS + 4, ITEMS + 20)}
    moved = {name for name in before if after[name]["sid"] != before[name]["sid"]}
    assert moved
    assert {name for name in before if after[name] != before[name]} <= {f"item{n:03d}" for n in range(10)}
    churn = {(row["id"], row["from_version"], row["to_version"]) for row in lake.read("semantic.churn").collect()}
    assert churn == {(name, version, version) for name in moved}
    assert lake.read("bronze.quarantine").where("run_id = 'strict'").count() == 4
    assert measured_versions(lake, "strict") == set(statuses(lake, "item"))  # readers have theirs this night too
    open_gate = configuration(Path(lake.root).parent, "semantic.item.seed=5")
    run_items(replace(published, config=open_gate, ds=DS + timedelta(days=1), run_id="strict"))
    assert published_version(lake, "item") != version
    assert measured_versions(lake, "strict") == {published_version(lake, "item")}  # the night again: the newest counts


@pytest.mark.night
def test_an_earlier_night_publishes_nothing_instead_of_the_published_codebook(published: Context) -> None:
    lake, version = published.lake, published_version(published.lake, "item")
    before, earlier = published_rows(lake, "item"), replace(published, ds=DS - timedelta(days=5), run_id="earlier")
    notes = "\n".join(run_items(earlier).notes)
    assert f"published codebook kept {version}" in notes
    assert statuses(lake, "item") == {version: "published"}
    another = configuration(Path(lake.root).parent, "semantic.item.seed=5")
    notes = "\n".join(run_items(replace(earlier, config=another)).notes)
    assert f"is not published (this is an earlier night than {DS}, that of the published one); {version} stays" in notes
    assert sorted(statuses(lake, "item").values()) == ["candidate", "published"]
    assert published_rows(lake, "item") == before


@pytest.mark.night
def test_a_new_codebook_takes_over_names_is_compared_and_waits_where_a_person_decides(published: Context) -> None:
    lake = published.lake
    before, version = published_rows(lake, "item"), published_version(lake, "item")
    root = Path(lake.root).parent
    manual = configuration(root, "semantic.promotion=manual", "semantic.item.seed=5")
    notes = "\n".join(run_items(replace(published, config=manual, run_id="manual")).notes)
    (candidate,) = (name for name, status in statuses(lake, "item").items() if status == "candidate")
    assert f"{candidate} is not published (semantic.promotion is manual); {version} stays" in notes
    assert published_rows(lake, "item") == before
    book = codebooks(lake, "item")[candidate]
    assert book.metrics["churn_1"] <= book.metrics["churn_1_unaligned"]

    new = {
        row["item_id"]: row["sid"]
        for row in ids_of(lake, "item", candidate).withColumnRenamed("id", "item_id").collect()
    }
    changed = {row["item_id"]: (row["sid"], new[row["item_id"]]) for row in before if row["sid"] != new[row["item_id"]]}
    churn = lake.read("semantic.churn").where("entity = 'item'").collect()
    assert {row["id"]: (row["old_sid"], row["new_sid"]) for row in churn} == changed
    assert {(row["from_version"], row["to_version"], row["reason"]) for row in churn} == {
        (version, candidate, "moved cell")
    }
    assert {row["segment"] for row in churn} <= {"head", "tail"}
    assert measured_versions(lake, "manual") == {version, candidate}
    measured = lake.read("semantic.health").where("run_id = 'manual' AND metric = 'churn' AND level = 2").head()
    assert measured["value"] == pytest.approx(len(changed) / ITEMS)

    said = list(commands.compare(published, "item", candidate))
    for of in (version, candidate):
        health = lake.read("semantic.health").where(F.col("codebook_version") == of)
        health = health.where("entity = 'item' AND run_id = 'manual'")
        rows = health.where("control = 'none'").orderBy("level").collect()
        coverage, agreement = (
            " / ".join(f"{row['value']:.2f}" for row in rows if row["metric"] == metric)
            for metric in ("coverage", "neighbour_agreement")
        )
        line = f"  {of}: coverage {coverage}; neighbour agreement {agreement} (by level; measured for {DS})"
        assert line in said, said


@pytest.mark.night
def test_a_person_publishes_a_codebook_and_takes_it_back_and_no_night_does_it_again(published: Context) -> None:
    lake = published.lake
    version, root = published_version(lake, "item"), Path(published.lake.root).parent
    manual = configuration(root, "semantic.promotion=manual", "semantic.item.seed=5")
    run_items(replace(published, config=manual, run_id="manual"))
    (candidate,) = (name for name, status in statuses(lake, "item").items() if status == "candidate")
    encode(lake, "item", "item-1", ITEM_VECTORS[ITEMS:], first=ITEMS)  # both codebooks get what comes
    run_items(replace(published, config=manual, ds=DS + timedelta(days=1), run_id="later"))
    assert len(published_rows(lake, "item")) == ITEMS + 20
    assert ids_of(lake, "item", candidate).count() == ITEMS + 20
    assert list(statuses(lake, "item").values()).count("candidate") == 1  # it was not fitted again

    said = "\n".join(commands.compare(published, "item", None))
    assert f"{version} (published) and {candidate} (candidate); 180 have an ID in both" in said
    assert list(commands.promote_codebook(published, "item", candidate)) == [
        f"items: {candidate} is published instead of {version}"
    ]
    assert list(commands.roll_back(published, "item")) == [
        f"items: {candidate} was rolled back, {version} is published again"
    ]
    auto = configuration(root, "semantic.item.seed=5")
    notes = "\n".join(run_items(replace(published, config=auto, run_id="auto")).notes)
    assert f"{candidate} is not published (it was rolled back); {version} stays" in notes
    assert published_version(lake, "item") == version
    listed = "\n".join(commands.list_codebooks(published))
    assert f"{candidate}  rolled back" in listed
    with pytest.raises(DataError, match="no codebook of items was published before"):
        list(commands.roll_back(published, "item"))


@pytest.mark.night
def test_changed_content_gets_another_id_where_the_configuration_says_so(published: Context) -> None:
    lake = published.lake
    before = {row["item_id"]: row for row in published_rows(lake, "item")}
    encode(lake, "item", "item-1", -ITEM_VECTORS[:10])
    reassign = configuration(Path(lake.root).parent, "semantic.item_changed_content=reassign")
    ctx = replace(published, config=reassign, ds=DS + timedelta(days=1), run_id="reassign")
    notes = "\n".join(run_items(ctx).notes)
    after = {row["item_id"]: row for row in published_rows(lake, "item")}
    moved = {name for name, row in after.items() if row["sid"] != before[name]["sid"]}
    assert 0 < len(moved) <= 10
    assert f"{len(moved)} IDs moved because their content changed" in notes
    assert all(after[name] == before[name] for name in after if name not in {f"item{n:03d}" for n in range(10)})
    churn = lake.read("semantic.churn").collect()
    assert {row["id"] for row in churn} == moved
    assert {(row["reason"], row["from_version"] == row["to_version"]) for row in churn} == {("content changed", True)}
    run_items(replace(ctx, run_id="again"))
    assert {row["item_id"]: row for row in published_rows(lake, "item")} == after


class Killed(Exception):
    pass


@contextmanager
def killed_at(method: str, table: str, call: int) -> Iterator[None]:
    """The given call of a method of Lake for this table never returns."""
    calls, original = [], getattr(Lake, method)

    def deadly(lake: Lake, name: str, rows: DataFrame, *rest: object, **more: object) -> int | None:
        calls.append(name)
        if name == table and calls.count(table) == call:
            raise Killed
        return original(lake, name, rows, *rest, **more)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Lake, method, deadly)
        yield


@pytest.mark.night
def test_a_run_killed_on_the_way_is_finished_by_the_next(
    unpublished: Context, first_night: tuple[Path, Outcome]
) -> None:
    lake = unpublished.lake
    undisturbed = context_of(unpublished.spark, first_night[0]).lake
    with killed_at("insert_new", "semantic.item_ids", 1):  # the candidate is fitted, its IDs are not written
        run(unpublished)
    assert lake.read("semantic.item_ids").isEmpty()
    with killed_at("merge", "semantic.codebooks", 1):  # the IDs are written, but not yet published
        run(unpublished)
    assert lake.read("semantic.item_ids").count() == ITEMS
    with pytest.raises(MissingInput):
        published_version(lake, "item")
    run(unpublished)
    for entity in ("item", "user"):
        assert published_rows(lake, entity) == published_rows(undisturbed, entity)
        assert statuses(lake, entity) == statuses(undisturbed, entity)


@pytest.mark.night
def test_searched_sizes_stand_in_the_codebook_with_the_reason_in_the_summary(unpublished: Context) -> None:
    root = Path(unpublished.lake.root).parent
    config = configuration(root, "semantic.item.sizes=auto", "semantic.item.kind=rqkmeans")
    notes = "\n".join(run(replace(unpublished, config=config)).notes)
    assert "sizes auto: clusters of 2 (median cluster 80" in notes  # 160 items: nearer to 63 than 4 clusters of 40
    book = published_book(unpublished.lake)
    assert (book["quantizer"], book["sizes"]) == ("rqkmeans", [2, 32])
    assert {len(row["codes"]) for row in published_rows(unpublished.lake, "item")} == {2}
    again = run(replace(unpublished, config=config, ds=DS + timedelta(days=1), run_id="20240201-test"))
    assert "items: published codebook kept" in "\n".join(again.notes)


@pytest.mark.night
def test_controls_are_published_where_the_gate_lets_them(unpublished: Context) -> None:
    root = Path(unpublished.lake.root).parent
    kinds = ("semantic.item.kind=category", "semantic.user.kind=random")
    with pytest.raises(HealthGateError, match=r"min_coverage"):  # code 0, for no category, is not used
        run(replace(unpublished, config=configuration(root, *kinds)))
    lax = "{max_unexplained_variance: 9.0, min_coverage: 0.5, min_head_coverage: 0.0, max_largest_bucket: 0.5}"
    lax = [f"semantic.{entity}_gate={lax}" for entity in ("item", "user")]
    run(replace(unpublished, config=configuration(root, *kinds, *lax)))
    items = published_rows(unpublished.lake, "item")
    assert {int(row["item_id"][4:]) % 3 + 1 == row["codes"][0] for row in items} == {True}
    assert published_book(unpublished.lake)["sizes"] == [4]
    assert len(published_rows(unpublished.lake, "user")) == USERS


def test_vectors_none_of_which_is_usable_are_refused(unpublished: Context) -> None:
    encode(unpublished.lake, "item", "item-3", [None, None])
    with pytest.raises(DataError, match=r"no usable vector of revision item-3 \(2 missing\): run jobs/embed\.py"):
        run(unpublished)


def test_readers_of_the_published_version_do_not_load_torch() -> None:
    code = "import sys, akt_spark.semantic.publish; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
