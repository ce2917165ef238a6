"""AKT-Rec (arXiv 2605.23310): the whole ranker. Base, ablations and controls are the same class, other settings.

Shapes: B samples, L history entries, U distinct items of a batch, d the width of an embedding, F activity features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from akt_spark.config import ModelConfig
from akt_spark.ranker.attention import TargetAttention, hard_search
from akt_spark.ranker.entity import Entity
from akt_spark.ranker.lookup import EntityLookup
from akt_spark.ranker.views import ContentView, ViewFusion


class Ranker(nn.Module):
    """Click probability of (user, item, moment).

    The backbone of all variants is a target attention over recent history, another over the part of the long history
    that shares the target's category or first code, attributes, statistics and embeddings of user and item, and an MLP.
    With `aggregation` the second attention moves into a cluster view, which is fused with the instance view.

    Three groups of parameters want their own optimisers: `id_tables` (sparse gradients: lazy Adam), `dense_parameters`
    (Adam), and `transfer_tables`, the tables of the first group that `transfer_losses` trains by plain SGD, since Adam
    would give a row that only the transfer touches the same step for every weight (method.md 13).
    """

    def __init__(self, config: ModelConfig, items: EntityLookup, users: EntityLookup, seed: int) -> None:
        """Builds the model; the same seed gives the same weights, and the global random state is left as it was."""
        super().__init__()
        self.config = config
        if config.codes == "random":
            items, users = items.with_random_codes(), users.with_random_codes()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build(items, users)
        self.refresh_snapshots()

    def _build(self, items: EntityLookup, users: EntityLookup) -> None:
        config, dim = self.config, self.config.dim
        self.item, self.user = Entity(config, items), Entity(config, users)
        key = items.prefixes()[:, 0] if config.hard_search == "sid" else items.category
        self.register_buffer("search_key", key, persistent=False)  # (N,) 0 matches nothing
        features = items.activity.shape[1]
        history_width = sum(self.item.widths)
        self.recent_attention = TargetAttention(dim, history_width, dim, config.attention_hidden)
        self.search_attention = TargetAttention(dim, history_width, dim, config.attention_hidden)
        blocks = [*self.user.widths, *self.item.widths, dim]
        width = 2 * dim  # the products
        if config.aggregation:
            self.fusion = ViewFusion(blocks, dim, features, config.gate_floor)
            width += len(blocks) * dim
        else:
            width += dim  # the searched history
        if config.residual_instance or not config.aggregation:
            width += sum(blocks)
        if config.content_view:
            self.content = ContentView(items.vector, dim)
            width += 3 * dim
        self.tower = _mlp([width, *config.hidden], config.dropout)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits (B,).

        Args:
            batch: ``user_idx`` (B,), ``item_idx`` (B,), ``history`` (B, L) newest first and padded with 0,
                ``user_activity`` and ``item_activity`` (B, F) as of the sample.
        """
        config, users, items = self.config, batch["user_idx"], batch["item_idx"]
        recent = batch["history"][:, : config.recent]  # (B, R)
        searched = self._search(items, batch["history"])  # (B, W)
        attributes, individual, history, (target, recent_at, searched_at) = self._gather(items, recent, searched)
        item = self.item.blocks(items, batch["item_activity"], attributes[target], individual[target])
        user = self.user.blocks(users, batch["user_activity"], *self.user.gather(users))
        query = item[-1]  # (B, d) fused embedding
        attended = self.recent_attention(query, history, recent_at, recent > 0)  # (B, d)
        clustered = self.search_attention(query, history, searched_at, searched > 0)  # (B, d)
        instance = [*user, *item, attended]
        parts = [user[-1] * query, attended * query]  # an MLP learns products slowly
        if config.aggregation:
            cluster = [*self.user.cluster_blocks(users), *self.item.cluster_blocks(items), clustered]
            parts.append(self.fusion(instance, cluster, user[1], item[1]))  # (B, 7d)
        else:
            parts.append(clustered)
        if config.residual_instance or not config.aggregation:
            parts.extend(instance)
        if config.content_view:
            parts.append(self.content(items, recent))  # (B, 3d)
        return self.tower(torch.cat(parts, 1))[:, 0]

    def _search(self, items: Tensor, history: Tensor) -> Tensor:
        """Newest long-history entries that share the target's key: (B, W), padded with 0."""
        target = self.search_key[items][:, None]  # (B, 1)
        matches = (self.search_key[history] == target) & (target > 0) & (history > 0)
        return hard_search(history, matches, self.config.searched)

    def _gather(self, *ids: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Looks up every distinct item of a batch once.

        Returns:
            Attribute and individual embeddings, each (U, d); history features (U, 2d + F); for every argument, the
            rows of its ids, in its shape.
        """
        distinct, row = torch.unique(torch.cat([part.flatten() for part in ids]), return_inverse=True)
        rows = [part.view(like.shape) for part, like in zip(row.split([i.numel() for i in ids]), ids, strict=True)]
        attributes, individual = self.item.gather(distinct)
        history = torch.cat([attributes, self.item.statistics(distinct), individual], 1)
        return attributes, individual, history, rows

    def regulariser(self, batch: dict[str, Tensor]) -> Tensor:
        """Weighted orthogonality loss of the distinct items and users of the batch: a scalar, 0 when it is off."""
        if not self.config.orthogonality:
            return self.tower[-1].bias.new_zeros(())
        loss = self.item.embedding.orthogonality(batch["item_idx"])
        loss = loss + self.user.embedding.orthogonality(batch["user_idx"])
        return self.config.orthogonality * loss

    def transfer_losses(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Transfer losses of students that the generator draws; empty when the transfer is off.

        Their gradient reaches `transfer_tables` only. They are not scaled by the warm-up.
        """
        if not self.config.transfer:
            return {}
        return {"transfer_item": self.item.transfer(generator), "transfer_user": self.user.transfer(generator)}

    def id_tables(self) -> list[nn.Parameter]:
        """Tables with sparse gradients; rows absent from a batch have none."""
        return [m.weight for m in self.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]

    def transfer_tables(self) -> list[nn.Parameter]:
        """The ID tables that the transfer losses train."""
        if not self.config.transfer:
            return []
        return [self.item.embedding.own_rows.weight, self.user.embedding.own_rows.weight]

    def dense_parameters(self) -> list[nn.Parameter]:
        """All other parameters."""
        tables = {id(table) for table in self.id_tables()}
        return [parameter for parameter in self.parameters() if id(parameter) not in tables]

    def refresh_snapshots(self) -> None:
        """Recomputes the cluster means of the aggregation from the current tables."""
        self.item.refresh_means()
        self.user.refresh_means()

    def gate(self, entity: str) -> Tensor | None:
        """Gate r of every id (N,) of ``item`` or ``user`` from its look-up activity; None without a cluster part."""
        return {"item": self.item, "user": self.user}[entity].gates()


def _mlp(widths: list[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for narrow, wide in zip(widths[1:], widths, strict=False):
        layers += [nn.Linear(wide, narrow), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))
