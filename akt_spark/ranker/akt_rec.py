"""AKT-Rec (arXiv 2605.23310): the whole ranker. Base, rivals, ablations and controls are this class, other settings.

Shapes: B samples, L history entries, U distinct items of a batch, d the width of an embedding, F activity features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from akt_spark.config import ModelConfig
from akt_spark.ranker.attention import MeanPooling, TargetAttention, hard_search
from akt_spark.ranker.content import AlignedContent, ContentView
from akt_spark.ranker.content_branch import ContentBranch
from akt_spark.ranker.entity import Entity
from akt_spark.ranker.lookup import EntityLookup, distinct
from akt_spark.ranker.matches import MatchCounts
from akt_spark.ranker.tail_preference import TailPreference
from akt_spark.ranker.tower import Wide, new_tower
from akt_spark.ranker.views import ViewFusion


class Ranker(nn.Module):
    """Click probability of (user, item, moment).

    The backbone of all variants is a target attention over recent history, another over the part of the long history
    that shares the target's category or first code, attributes, statistics and embeddings of user and item, and an MLP.
    With `aggregation` the second attention moves into a cluster view, which is fused with the instance view. What a
    rival lacks of it or has besides is a key of `ModelConfig` (docs/rivals.md).

    Three groups of parameters want their own optimisers: `id_tables` (sparse gradients: lazy Adam), `dense_parameters`
    (Adam), and `transfer_tables`, the tables of the first group that `transfer_losses` trains by plain SGD, since Adam
    would give a row that only the transfer touches the same step for every weight (method.md 13; `transfer_optimiser`
    joins it with the others, as the paper does).
    """

    def __init__(self, config: ModelConfig, items: EntityLookup, users: EntityLookup, seed: int) -> None:
        """Builds the model; the same seed gives the same weights, and the global random state is left as it was."""
        super().__init__()
        self.config = config
        if config.codes not in ("semantic", "random", *items.other_codes):
            raise ValueError(f"codes '{config.codes}' are not in the look-up of items: {sorted(items.other_codes)}")
        items, users = (
            lookup.with_codes(config.codes) if name in config.codes_of else lookup.without_codes()
            for name, lookup in (("item", items), ("user", users))
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._build(items, users)
        self.refresh_snapshots()

    def _build(self, items: EntityLookup, users: EntityLookup) -> None:
        config, dim = self.config, self.config.dim
        self.item = Entity(config.of("item"), items, config.item_admission, config.content_start)
        self.user = Entity(config.of("user"), users, config.user_admission)
        features, history_width = items.activity.shape[1], sum(self.item.widths)

        def attention() -> TargetAttention:
            how = {"activation": config.attention_activation, "softmax": config.attention_softmax}
            return TargetAttention(dim, history_width, dim, config.attention_hidden, **how)

        if config.recent_pooling == "attention":
            self.recent_attention = attention()
        else:
            self.recent_attention = MeanPooling(history_width, dim)
        if config.hard_search != "none":
            key = items.prefixes()[:, 0] if config.hard_search == "sid" else items.category
            self.register_buffer("search_key", key, persistent=False)  # (N,) 0 matches nothing
            self.search_attention = attention()
        blocks = [*self.user.widths, *self.item.widths, dim]
        statistics = [features, features] if config.statistics else []
        self.fused_only = config.aggregation and not config.residual_instance
        width = 0 if self.fused_only else 2 * dim + sum(statistics)  # products, statistics
        if config.aggregation:
            inside = statistics if self.fused_only else []
            self.fusion = ViewFusion(blocks, dim, features, config.gate_floor, inside, config.aggregation_gate)
            width += (len(blocks) + len(inside)) * dim
        elif config.hard_search != "none":
            width += dim  # the searched history
        if not self.fused_only:
            width += sum(blocks)
        if config.content:
            self.content = ContentView(config, items)
            width += self.content.width
        if config.match_counts:
            self.matches = MatchCounts(config, items)
            width += self.matches.width
        if config.aligned_content:
            self.aligned_content = AlignedContent(config, items)
            width += self.aligned_content.width
        self.content_branch = None
        if config.content_branch != "none":
            self.content_branch = ContentBranch(config, items)
            width += self.content_branch.width
        self.tower = new_tower(config, width, 2 * features)
        self.wide = Wide(items, users) if config.wide else None
        self.tail_preference = TailPreference(config, items) if config.tail_preference else None

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits (B,).

        Args:
            batch: ``user_idx`` (B,), ``item_idx`` (B,), ``history`` (B, L) newest first and padded with 0,
                ``user_activity`` and ``item_activity`` (B, F) as of the sample.
        """
        config, users, items = self.config, batch["user_idx"], batch["item_idx"]
        recent = batch["history"][:, : config.recent]  # (B, R)
        searched = self._search(items, batch["history"])  # (B, W)
        ids, (target, recent_at, searched_at) = self._distinct(items, recent, searched)
        attributes, individual = self.item.gather(ids)
        history = self.item.history(ids, attributes, individual)
        item = self.item.blocks(items, batch["item_activity"], attributes[target], individual[target])
        user = self.user.blocks(users, batch["user_activity"], *self.user.gather(users))
        activity = [self.user.statistics(batch["user_activity"]), self.item.statistics(batch["item_activity"])]
        query = item[-1]  # (B, d) fused embedding
        attended = self.recent_attention(query, history, recent_at, recent > 0)  # (B, d)
        instance = [*user, *item, attended]
        statistics = activity if config.statistics else []
        parts = (
            [] if self.fused_only else [user[-1] * query, attended * query, *statistics]
        )  # products are slow to learn
        if config.hard_search != "none":
            clustered = self.search_attention(query, history, searched_at, searched > 0)  # (B, d)
            if config.aggregation:
                cluster = [*self.user.cluster_blocks(users), *self.item.cluster_blocks(items), clustered]
                shown = [*instance, *statistics] if self.fused_only else instance
                parts.append(self.fusion(shown, cluster, *activity))  # (B, 5d), with statistics 7d
            else:
                parts.append(clustered)
        if not self.fused_only:
            parts.extend(instance)
        if config.content:
            parts.append(self.content(items, recent))
        if config.match_counts:
            parts.append(self.matches(items, batch["history"]))
        if config.aligned_content:
            parts.append(self.aligned_content(query, target, ids, individual, recent_at, recent > 0))
        if self.content_branch is not None:
            parts.append(self.content_branch.features(batch, self._distinct))
        logits = self.tower(torch.cat(parts, 1), torch.cat(activity, 1))
        if self.wide is not None:
            logits = logits + self.wide(items, users)
        if self.tail_preference is not None:
            logits = logits + self.tail_preference(attended, items)
        return logits

    def _search(self, items: Tensor, history: Tensor) -> Tensor:
        """Newest long-history entries that share the target's key: (B, W), padded with 0."""
        if self.config.hard_search == "none":
            return history[:, :0]
        target = self.search_key[items][:, None]  # (B, 1)
        matches = (self.search_key[history] == target) & (target > 0) & (history > 0)
        return self._newest(history, matches)

    def _newest(self, history: Tensor, matches: Tensor) -> Tensor:
        """The newest entries (B, W) of the history (B, L) that match."""
        return hard_search(history, matches, self.config.searched)

    @staticmethod
    def _distinct(*ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Distinct ids (U,), so that each is looked up once, and the rows of the ids of every argument in its shape."""
        return distinct(*ids)

    def regulariser(self, batch: dict[str, Tensor]) -> Tensor:
        """Weighted losses of the ids of a batch (orthogonality, agreement, monotone prior): a scalar, 0 when off."""
        loss = self.item.embedding.individual.weight.new_zeros(())
        for name, entity in self._sides():
            config, ids = entity.config, batch[f"{name}_idx"]
            if config.orthogonality:
                loss = loss + config.orthogonality * entity.embedding.orthogonality(ids)
            if config.agreement:
                loss = loss + config.agreement * entity.embedding.agreement(ids, batch[f"{name}_activity"])
            if config.monotone_prior:
                loss = loss + config.monotone_prior * entity.embedding.rise(ids, batch[f"{name}_activity"])
        return loss

    def transfer_losses(self, generator: torch.Generator, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Transfer losses of students that the generator draws, or of the batch; empty when the transfer is off.

        Their gradient reaches `transfer_tables` only. They are not scaled by the warm-up.
        """
        return {
            f"transfer_{name}": entity.transfer(generator, batch[f"{name}_idx"])
            for name, entity in self._sides()
            if entity.config.transfer
        }

    def id_tables(self) -> list[nn.Parameter]:
        """Tables with sparse gradients; rows absent from a batch have none."""
        return [m.weight for m in self.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]

    def transfer_tables(self) -> list[nn.Parameter]:
        """The ID tables that the transfer losses train."""
        return [entity.embedding.own_rows.weight for _, entity in self._sides() if entity.config.transfer]

    def dense_parameters(self) -> list[nn.Parameter]:
        """All other parameters."""
        tables = {id(table) for table in self.id_tables()}
        return [parameter for parameter in self.parameters() if id(parameter) not in tables]

    def refresh_snapshots(self) -> None:
        """Recomputes the cluster means of the aggregation from the current tables."""
        for _, entity in self._sides():
            entity.refresh_means()

    def gate(self, entity: str) -> Tensor | None:
        """Gate r of every id (N,) of ``item`` or ``user`` from its look-up activity; None without a cluster part."""
        return dict(self._sides())[entity].gates()

    def _sides(self) -> tuple[tuple[str, Entity], ...]:
        return ("item", self.item), ("user", self.user)
