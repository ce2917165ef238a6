"""A training that starts from the ranker of an earlier day, though there are new ids and codes have moved.

Indices of ids are stable and only grow, and a refreshed codebook keeps the names of its codes where it can
(`akt_spark.semantic.relabel`). So rows of ID tables are carried over by id, those of prefixes by the codes of the
prefix, those of attributes by their value, and everything else as it is: dense weights, and statistics by which
features are normalised. What is new starts as always, but a new prefix below the first level at zero, since a cluster
part is a sum over levels: it starts as the prefix above it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from akt_spark.ranker.akt_rec import Ranker
from akt_spark.ranker.content import AlignedContent
from akt_spark.ranker.embedding import AttributeEmbedding, ClusterGuidedEmbedding, IdTable
from akt_spark.ranker.lookup import EntityLookup
from akt_spark.training.checkpoint import load_ranker
from akt_spark.training.lookup import load_lookup
from akt_spark.training.plan import Parent

SNAPSHOTS = "means.bank"  # is made of the tables


@dataclass(frozen=True)
class Rows:
    """Which rows of a table of the parent go where: ``new[i]`` becomes what ``old[i]`` is; ``zero`` becomes zero."""

    old: Tensor
    new: Tensor
    zero: Tensor | None = None


def start_from(model: Ranker, parent: Parent, items: EntityLookup, users: EntityLookup) -> str:
    """Gives a ranker over the given look-ups the weights of its parent; returns a line that says how much it was."""
    old_items, old_users = load_lookup(parent.item_files, "item"), load_lookup(parent.user_files, "user")
    old = load_ranker(parent.path, old_items, old_users)
    return carry_over(model, old, {"item": (old_items, items), "user": (old_users, users)})


@torch.no_grad()
def carry_over(model: Ranker, old: Ranker, lookups: dict[str, tuple[EntityLookup, EntityLookup]]) -> str:
    """Copies what two rankers of one configuration share.

    Args:
        model: of now; changed.
        old: of then.
        lookups: of ``item`` and ``user``, each that of then and that of now.

    Returns:
        How many rows were copied, and which weights have another shape and start as always.
    """
    chosen = model.config.codes
    codes = {of: tuple(side.with_codes(chosen).codes for side in sides) for of, sides in lookups.items()}
    tables: dict[str, Rows] = {}
    for name, module in model.named_modules():
        tables |= {f"{name}.{table}": rows for table, rows in _rows(module, old.get_submodule(name), name, codes)}
    target, copied, others = model.state_dict(), 0, []
    for name, values in old.state_dict().items():
        if name in tables:
            rows = tables[name]
            target[name][rows.new] = values[rows.old]
            if rows.zero is not None:
                target[name][rows.zero] = 0.0
            copied += len(rows.new)
        elif target[name].shape == values.shape:
            target[name].copy_(values)
        elif not name.endswith(SNAPSHOTS):
            others.append(name)
    model.refresh_snapshots()
    of = sum(len(target[name]) for name in tables)
    rest = f"; of another shape, so new: {', '.join(others)}" if others else ""
    return f"{copied:,} of {of:,} rows of tables carried over{rest}"


def _rows(
    module: nn.Module, old: nn.Module, name: str, codes: dict[str, tuple[Tensor, Tensor]]
) -> list[tuple[str, Rows]]:
    """The tables whose rows belong to ids, values or codes, by the names of their weights in a module."""
    if isinstance(module, IdTable):
        return [("weight", _of_ids(old, module))]
    if isinstance(module, AttributeEmbedding):
        return [("table.weight", _of_values(old, module))]
    if isinstance(module, AlignedContent):
        return [("alignment.weight", _of_codes(*codes["item"], old.codes, module.codes, whole_prefix=False))]
    if isinstance(module, ClusterGuidedEmbedding) and module.prefix_rows is not None:
        entity = name.split(".")[0]
        rows = _of_codes(*codes[entity], old.prefixes, module.prefixes, whole_prefix=module.mode != "codes")
        return [("prefix_rows.weight", rows)]
    return []


def _of_ids(old: IdTable, new: IdTable) -> Rows:
    """Ids that own a row in both; and the row that all others share."""
    both = min(len(old.row), len(new.row))
    was, now = old.row[:both], new.row[:both]
    kept = (was > 0) & (was != old.shared_row) & (now > 0) & (now != new.shared_row)
    kept[0] = True  # the padding
    shared = [0] if old.shared_row and new.shared_row else []
    return Rows(
        torch.cat([was[kept], was.new_tensor(shared) + old.shared_row]),
        torch.cat([now[kept], now.new_tensor(shared) + new.shared_row]),
    )


def _of_values(old: AttributeEmbedding, new: AttributeEmbedding) -> Rows:
    """Values of one attribute after another: id 0, the padding, has the first value of each."""
    starts = [torch.cat([side.rows[0], side.rows.new_tensor([side.table.num_embeddings])]) for side in (old, new)]
    sizes = torch.minimum(*(start.diff() for start in starts)).tolist()
    was, now = ([start + torch.arange(size) for start, size in zip(side, sizes, strict=False)] for side in starts)
    return Rows(torch.cat(was), torch.cat(now))


def _of_codes(old_codes: Tensor, new_codes: Tensor, old_rows: Tensor, new_rows: Tensor, whole_prefix: bool) -> Rows:
    """Prefixes, or codes of a level, that both have.

    Args:
        old_codes: (M, K), then.
        new_codes: (N, L), now.
        old_rows: (M, K) their rows in the table; 0 where an id has no code.
        new_rows: (N, L) likewise.
        whole_prefix: rows belong to a code together with those before it.
    """
    was, now = ([side.new_zeros(1)] for side in (old_rows, new_rows))  # the padding
    for level in range(min(old_rows.shape[1], new_rows.shape[1])):
        first = 0 if whole_prefix else level
        old_keys, old_row = _distinct(old_codes[:, first : level + 1], old_rows[:, level])
        new_keys, new_row = _distinct(new_codes[:, first : level + 1], new_rows[:, level])
        keys = torch.unique(torch.cat([old_keys, new_keys]), dim=0, return_inverse=True)[1]
        row_of = keys.new_zeros(len(keys) + 1)  # 0: then there was none
        row_of[keys[: len(old_keys)]] = old_row
        found = row_of[keys[len(old_keys) :]]
        was.append(found[found > 0])
        now.append(new_row[found > 0])
    new = torch.cat(now)
    deeper = torch.unique(new_rows[:, 1:])
    return Rows(torch.cat(was), new, deeper[~torch.isin(deeper, new)] if whole_prefix else None)


def _distinct(codes: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The codes (P, K) of every row (P,) that an id has: of many ids with one row, those of any."""
    row, place = torch.unique(rows, return_inverse=True)
    any_id = place.new_empty(len(row))
    any_id[place] = torch.arange(len(place))
    return codes[any_id[row > 0]], row[row > 0]
