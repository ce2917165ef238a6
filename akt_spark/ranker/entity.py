"""Everything the ranker knows of one entity, item or user: its blocks, its cluster means, its transfer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from akt_spark.config import ModelConfig
from akt_spark.ranker.embedding import AttributeEmbedding, ClusterGuidedEmbedding
from akt_spark.ranker.lookup import STUDENT, TEACHER, EntityLookup
from akt_spark.ranker.transfer import TransferSampler, transfer_loss
from akt_spark.ranker.views import ClusterMeans


class Entity(nn.Module):
    """One side of the ranker. A block list is ``[attributes, embedding]`` of widths `widths`.

    Statistics are no part of it: those of the look-up are of the end of the training period, so as features of history
    entries and clusters they would tell a training sample what happened after it. A sample brings its own (ours; the
    paper puts statistics into both, and does not say as of when).
    """

    def __init__(self, config: ModelConfig, lookup: EntityLookup, admission: int, from_content: bool = False) -> None:
        """Ids with at least ``admission`` training impressions own rows, which may start from their content."""
        super().__init__()
        self.config = config
        prefixes = lookup.prefixes()  # (N, L)
        self.attributes = AttributeEmbedding(lookup.attributes, config.dim)
        self.embedding = ClusterGuidedEmbedding(config, lookup, prefixes, admission, from_content)
        self.widths = [config.dim, config.dim]
        self.means = ClusterMeans(prefixes[:, 0], lookup.impressions, sum(self.widths)) if config.aggregation else None
        self.sampler = TransferSampler(config, lookup, prefixes, admission) if config.transfer else None
        self.register_buffer("activity", lookup.activity, persistent=False)
        self.register_buffer("impressions", lookup.impressions, persistent=False)
        self.register_buffer("students", (lookup.role == STUDENT).nonzero()[:, 0], persistent=False)
        self.register_buffer("teaches", lookup.role == TEACHER, persistent=False)  # (N,)

    def gather(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Attribute and individual embeddings of ids (U,), each (U, d)."""
        return self.attributes(ids), self.embedding.individual(ids)

    def statistics(self, activity: Tensor) -> Tensor:
        """Activity (B, F) on the scale of the training period, (B, F)."""
        return self.embedding.scaler(activity)

    def blocks(self, ids: Tensor, activity: Tensor, attributes: Tensor, individual: Tensor) -> list[Tensor]:
        """Instance blocks of ids (B,) with point-in-time activity (B, F) and gathered features (B, d) each."""
        if self.training and self.config.id_dropout:
            kept = torch.rand(len(ids), 1, device=individual.device) >= self.config.id_dropout
            individual = individual * kept
        if self.config.id_dropout_below:
            individual = individual * (self.impressions[ids, None] >= self.config.id_dropout_below)
        if self.training and self.config.activity_dropout and len(self.students):
            individual, activity = self._as_tail(ids, individual, activity)
        return [attributes, self.embedding.mix(ids, individual, activity)]

    def _as_tail(self, ids: Tensor, individual: Tensor, activity: Tensor) -> tuple[Tensor, Tensor]:
        """Samples of which some of teachers look like those of a student: d is 0, the activity that of a random one.

        So the gate hears from labels of heads what a tail needs (method.md 5.2). The tower and the gate of the views
        see the true activity (ours): a made-up click rate would teach them one that tails do not have.
        """
        device = ids.device
        chosen = torch.rand(len(ids), device=device) < self.config.activity_dropout
        chosen = (chosen & self.teaches[ids] & self.embedding.coded(ids))[:, None]
        drawn = self.students[torch.randint(len(self.students), (len(ids),), device=device)]
        return individual.masked_fill(chosen, 0.0), torch.where(chosen, self.activity[drawn], activity)

    def history(self, ids: Tensor, attributes: Tensor, individual: Tensor) -> Tensor:
        """Features (U, 2d) of ids (U,) as entries of a history, with gathered features (U, d) each."""
        if self.config.history_embedding == "fused":
            individual = self.embedding.mix(ids, individual, self.activity[ids], frozen=True)
        else:
            individual = self.embedding.without_gate(ids, individual)
        return torch.cat([attributes, individual], 1)

    def cluster_blocks(self, ids: Tensor) -> list[Tensor]:
        """The same blocks as means over the id's level-1 cluster, from the last snapshot or as they are now.

        Where nothing is trained the snapshot of the end of the epoch is what they are now.
        """
        live = self.training and self.config.cluster_means == "live"
        return list(self.means(ids, self._features if live else None).split(self.widths, 1))

    def refresh_means(self) -> None:
        """Takes a new snapshot of the cluster means."""
        if self.means is not None:
            self.means.refresh(self._features)

    def _features(self, ids: Tensor) -> Tensor:
        """Blocks of ids (M,) as cluster means take them, in one: (M, 2d)."""
        return torch.cat([self.attributes(ids), self.embedding.fused(ids)], 1)

    def transfer(self, generator: torch.Generator, ids: Tensor) -> Tensor:
        """L_trans of freshly drawn students, or of those among the ids (B,) of a batch: a scalar."""
        sampler = self.sampler
        lesson = sampler.draw(generator) if self.config.students == "sampler" else sampler.of_batch(ids)
        return transfer_loss(self.embedding, lesson, self.impressions, self.config)

    @torch.no_grad()
    def gates(self) -> Tensor | None:
        """Gate r of every id (N,) from its look-up activity, in evaluation mode; None where none has a cluster part."""
        ids = torch.arange(len(self.activity), device=self.activity.device)
        if self.embedding.gate is None or not self.embedding.coded(ids).any():
            return None
        return self.embedding.weight(ids, self.activity, frozen=True)[:, 0]
