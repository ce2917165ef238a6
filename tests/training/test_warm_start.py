"""Trainings that start from the ranker of an earlier day."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from akt_spark.config import ModelConfig
from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.presets import PRESETS
from akt_spark.training import ranks
from akt_spark.training.checkpoint import load_ranker, read_checkpoint
from akt_spark.training.exchange import InlineCommunicator
from akt_spark.training.lookup import load_lookup
from akt_spark.training.order import next_blocks
from akt_spark.training.plan import Parent, Plan
from akt_spark.training.reader import ordered_batches
from akt_spark.training.samples import Block
from akt_spark.training.warm_start import carry_over
from training.conftest import ITEMS, TINY, USERS, lookup_table

NEW = 4
MOVED = (5, 8)  # items that a refreshed codebook has given other codes


def grown(table: pa.Table, entity: str) -> pa.Table:
    """A day later: some ids moved to another cluster, and `NEW` more, among them one of a prefix that is new below a
    known one, [0, 7], and one of a new first code, [6, 0]."""
    rows, size = table.to_pylist(), len(table) + 1
    codes = [[0, 7], [6, 0], None, rows[0]["codes"]]
    for number in range(NEW):
        rows.append(
            rows[number] | {"idx": size + number, f"{entity}_id": f"{entity}{size + number}", "codes": codes[number]}
        )
    if entity == "item":
        for idx in MOVED:
            first, second = rows[idx - 1]["codes"]
            rows[idx - 1]["codes"] = [1 - first, second]
    return pa.Table.from_pylist(rows, schema=table.schema)


@pytest.fixture
def tomorrow(plan: Plan, tmp_path: Path) -> Plan:
    """The plan of the next day, over grown look-ups and the same samples, from the first day's ranker."""
    files = {}
    for entity, size in (("item", ITEMS), ("user", USERS)):
        path = tmp_path / f"{entity}s-tomorrow.parquet"
        pq.write_table(grown(lookup_table(size, entity), entity), path)
        files[f"{entity}_files"] = (f"file://{path}",)
    (first,) = plan.trainings
    parent = Parent("2024-01-30", str(Path(first.folder, "model")), "hash", plan.item_files, plan.user_files)
    second = replace(first, folder=str(tmp_path / "second"), parent=parent)
    settings = plan.settings.model_copy(update={"warm_start": "previous", "warm_start_share": 0.4})
    return replace(plan, trainings=(second,), settings=settings, **files)


def lookups(plan: Plan):
    return load_lookup(plan.item_files, "item"), load_lookup(plan.user_files, "user")


def rankers(plan: Plan, tomorrow: Plan, config: ModelConfig) -> tuple[Ranker, Ranker, Ranker, str]:
    """The first day's ranker with weights as training leaves them, the second day's before and after it took over."""
    old_sides, new_sides = lookups(plan), lookups(tomorrow)
    old = Ranker(config, *old_sides, seed=1)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for values in old.state_dict().values():
            if values.is_floating_point():
                values.add_(torch.rand(values.shape, generator=generator) * 0.1)
        for table in old.id_tables():
            table[0] = 0.0
    old.refresh_snapshots()
    fresh, new = Ranker(config, *new_sides, seed=1), Ranker(config, *new_sides, seed=1)
    (old_items, old_users), (items, users) = old_sides, new_sides
    said = carry_over(new, old, {"item": (old_items, items), "user": (old_users, users)})
    return old.eval(), fresh.eval(), new.eval(), said


def unmoved(plan: Plan) -> dict[str, torch.Tensor]:
    """Validation samples in which no item has moved."""
    (batch,) = ordered_batches(plan.validation, 100, backend="arrow")
    moved = torch.tensor(MOVED)
    kept = ~torch.isin(batch["item_idx"], moved) & ~torch.isin(batch["history"], moved).any(1)
    assert kept.sum() > 10
    return {name: values[kept] for name, values in batch.items()}


@pytest.mark.parametrize("preset", PRESETS)
def test_over_the_same_lookups_every_ranker_is_the_one_it_starts_from(plan, preset) -> None:
    config = ModelConfig.model_validate(TINY.model_dump() | PRESETS[preset].overrides)
    old, _, new, said = rankers(plan, plan, config)
    assert all(torch.equal(new.state_dict()[name], values) for name, values in old.state_dict().items())
    (batch,) = ordered_batches(plan.validation, 100, backend="arrow")
    assert torch.equal(old(batch), new(batch))
    assert "shape" not in said


@pytest.mark.parametrize(
    "overrides",
    [{}, {"cluster_mode": "codes", "transfer": False}, {"wide": True}, {"item_admission": 10}, {"prefix_members": 3}],
)
def test_logits_are_the_old_ones_where_codes_did_not_change(plan, tomorrow, overrides) -> None:
    """Without cluster means, which new members of a cluster do change."""
    config = ModelConfig.model_validate(TINY.model_dump() | {"aggregation": False, "aligned_content": True} | overrides)
    old, fresh, new, _ = rankers(plan, tomorrow, config)
    batch = unmoved(plan)
    assert torch.equal(old(batch), new(batch))
    assert not torch.allclose(old(batch), fresh(batch), atol=1e-3)


def test_rows_go_by_id_by_prefix_and_by_value(plan, tomorrow) -> None:
    old, fresh, new, said = rankers(plan, tomorrow, TINY)
    for side, size in (("item", ITEMS), ("user", USERS)):
        was, now, initial = (getattr(ranker, side).embedding for ranker in (old, new, fresh))
        for table in ("individual", "own_rows"):
            weights, before, untouched = (getattr(one, table).weight for one in (now, was, initial))
            assert torch.equal(weights[:size], before)
            assert torch.equal(weights[size:], untouched[size:])
            assert len(weights) == size + NEW
        assert torch.equal(
            new.get_submodule(side).attributes.table.weight, old.get_submodule(side).attributes.table.weight
        )
        deeper, first_of_new = now.prefixes[size][1], now.prefixes[size + 1]
        assert not now.prefix_rows.weight[deeper].any()  # [0, 7] starts as [0]
        assert torch.equal(now.prefix_rows.weight[first_of_new[0]], initial.prefix_rows.weight[first_of_new[0]])
        assert not now.prefix_rows.weight[first_of_new[1]].any()
    moved = torch.tensor(MOVED)
    codes = lookups(tomorrow)[0].codes
    for idx in MOVED:  # has the cluster part of another item with its new codes
        twin = next(one for one in range(1, ITEMS) if one not in MOVED and codes[one].equal(codes[idx]))
        pair = torch.tensor([idx, twin])
        shared = new.item.embedding.prefix_rows(new.item.embedding.prefixes[pair])
        assert torch.equal(shared[0], shared[1])
        assert torch.equal(shared[1], old.item.embedding.prefix_rows(old.item.embedding.prefixes[pair])[1])
    assert torch.equal(new.item.embedding.individual(moved), old.item.embedding.individual(moved))
    rows = sum(len(table) for table in new.id_tables())
    assert said == f"{rows - 2 * (2 * NEW + 3):,} of {rows:,} rows of tables carried over"


def test_ids_own_rows_only_while_they_are_admitted(plan, tomorrow) -> None:
    """Item 9 owned a row and item 10 did not; a day later it is the other way round."""

    def with_impressions(plan: Plan, **impressions: int) -> Plan:
        table = pq.read_table(plan.item_files[0].removeprefix("file://"))
        values = np.full(len(table), 50)
        for name, value in impressions.items():
            values[int(name[1:]) - 1] = value
        path = Path(plan.item_files[0].removeprefix("file://")).with_suffix(f".{sum(impressions.values())}.parquet")
        pq.write_table(table.set_column(table.column_names.index("impressions"), "impressions", pa.array(values)), path)
        return replace(plan, item_files=(f"file://{path}",))

    config = TINY.model_copy(update={"item_admission": 20})
    first, second = with_impressions(plan, i9=30, i10=3), with_impressions(tomorrow, i9=4, i10=40)
    old, fresh, new, _ = rankers(first, second, config)
    was, now, initial = (ranker.item.embedding.individual for ranker in (old, new, fresh))
    assert torch.equal(now.weight[now.shared_row], was.weight[was.shared_row])
    assert torch.equal(now(torch.tensor([9])), now.weight[now.shared_row][None])
    assert torch.equal(now(torch.tensor([10])), initial(torch.tensor([10])))
    others = torch.tensor([1, 8, 11, ITEMS - 1])
    assert torch.equal(now(others), was(others))


def test_weights_of_another_shape_are_named(plan, tomorrow, tmp_path) -> None:
    table = pq.read_table(tomorrow.item_files[0].removeprefix("file://"))
    wider = [None if vector is None else [*vector, 1.0] for vector in table.column("vector").to_pylist()]
    wider = table.set_column(table.column_names.index("vector"), "vector", pa.array(wider, pa.list_(pa.float32())))
    pq.write_table(wider, tmp_path / "wider.parquet")
    reading = TINY.model_copy(update={"content": ["item", "history", "similarity"]})
    _, fresh, new, said = rankers(plan, replace(tomorrow, item_files=(f"file://{tmp_path}/wider.parquet",)), reading)
    assert said.endswith("of another shape, so new: content.blocks.item.weight, content.blocks.history.weight")
    assert torch.equal(new.content.blocks["item"].weight, fresh.content.blocks["item"].weight)


def weights(plan: Plan) -> dict[str, torch.Tensor]:
    return load_ranker(Path(plan.trainings[0].folder, "model"), *lookups(plan)).state_dict()


class Killed(Exception):
    pass


def test_a_training_goes_on_from_its_parent_with_a_share_of_the_steps(plan, tomorrow, tmp_path, monkeypatch) -> None:
    ranks.train_all(InlineCommunicator(), plan)
    ranks.train_all(InlineCommunicator(), tomorrow)
    checkpoint = read_checkpoint(Path(tomorrow.trainings[0].folder, "model"))
    assert (plan.steps, checkpoint.step, checkpoint.parent) == (5, 3 * 2, "hash")
    said = Path(plan.log).read_text().splitlines()
    assert [line for line in said if "akt_rec seed 7: starts from run 2024-01-30: " in line]

    (training,) = tomorrow.trainings
    disturbed = replace(tomorrow, trainings=(replace(training, folder=str(tmp_path / "disturbed")),))
    disturbed = replace(disturbed, settings=disturbed.settings.model_copy(update={"checkpoint_steps": 1}))
    step = ranks.Trainer.train_step
    for kill in (1, 3, 5):

        def killed(self, batches, kill=kill):
            if self.step == kill:
                raise Killed
            step(self, batches)

        with monkeypatch.context() as patch:
            patch.setattr(ranks.Trainer, "train_step", killed)
            with pytest.raises(Killed):
                ranks.train_all(InlineCommunicator(), disturbed)
    ranks.train_all(InlineCommunicator(), disturbed)
    undisturbed, resumed = weights(tomorrow), weights(disturbed)
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)


@pytest.mark.parametrize("rows", [10, 25, 95, 100])
def test_epochs_of_a_share_take_turns(rows) -> None:
    blocks = [Block(f"file:///{number}", 10, 0) for number in range(10)]
    epochs = [next_blocks(blocks, rows, seed=3, epoch=epoch) for epoch in range(1, 12)]
    needed = -(-rows // 10)
    assert {len(epoch) for epoch in epochs} == {needed}
    in_a_row = [block for epoch in epochs for block in epoch]
    for start in range(0, len(in_a_row) - 10, 10):
        assert len(set(in_a_row[start : start + 10])) == 10  # none again before all had their turn
    assert epochs[0] != next_blocks(blocks, rows, seed=4, epoch=1) or rows == 100
