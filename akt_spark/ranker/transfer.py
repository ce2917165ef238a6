"""Asymmetric transfer from heads to tails: who teaches whom, and the loss (method.md 5.3 to 5.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from akt_spark.config import ModelConfig
from akt_spark.ranker.embedding import ClusterGuidedEmbedding, least_for_own_row, unit
from akt_spark.ranker.lookup import STUDENT, TEACHER, EntityLookup


@dataclass(frozen=True)
class Lesson:
    """One draw: students (S,), teachers (T,), and pairs (2, P) of places in both that share the student's cluster."""

    students: Tensor
    teachers: Tensor
    pairs: Tensor


class TransferSampler(nn.Module):
    """Draws students uniformly over clusters, then over the students of the cluster, and their teachers.

    A student's cluster is its longest code prefix that holds a teacher; a student without one takes no part, nor does
    one without a row of its own to move: not admitted, or cold where ``transfer_cold`` is off. A click batch rarely
    holds tail ids and never cold ones, hence the sampler (method.md 5.5). Members of clusters are kept as sorted ids
    with offsets, so a draw costs a few vector operations for any number of ids.
    """

    def __init__(self, config: ModelConfig, lookup: EntityLookup, prefixes: Tensor, admission: int = 0) -> None:
        super().__init__()
        self.config = config
        teachers = (lookup.role == TEACHER).nonzero()[:, 0]
        taught = lookup.taught(prefixes)  # (P,)
        level = (taught[prefixes] * torch.arange(1, prefixes.shape[1] + 1)).amax(1) - 1  # (N,) longest, -1 for none
        cluster = prefixes.gather(1, level.clamp_min(0)[:, None])[:, 0]  # (N,)
        own_row = lookup.admitted(least_for_own_row(config, admission))
        students = ((lookup.role == STUDENT) & (level >= 0) & own_row).nonzero()[:, 0]
        students = students[cluster[students].argsort(stable=True)]
        clusters, sizes = torch.unique_consecutive(cluster[students], return_counts=True)
        pairs = prefixes[teachers]  # (T, L): a teacher belongs to all its prefixes
        by_prefix = pairs.flatten().argsort(stable=True)
        members = torch.bincount(pairs.flatten(), minlength=len(taught))
        self._keep("all_teachers", teachers)
        self._keep("teachers", teachers.repeat_interleave(pairs.shape[1])[by_prefix])  # by prefix row
        self._keep("places", torch.searchsorted(teachers, self.teachers))  # of those in all_teachers
        self._keep("teacher_groups", torch.stack([members.cumsum(0) - members, members]))  # (2, P) start and size
        self._keep("students", students)  # by cluster
        self._keep("student_groups", torch.stack([sizes.cumsum(0) - sizes, sizes]))  # (2, C)
        self._keep("clusters", clusters)  # (C,) prefix rows
        self._keep("prefixes", prefixes)
        self._keep("level", level)
        self._keep("cluster", cluster)  # (N,) prefix row

    def _keep(self, name: str, tensor: Tensor) -> None:
        self.register_buffer(name, tensor, persistent=False)

    def draw(self, generator: torch.Generator) -> Lesson:
        """One lesson; without any cluster that has both sides, an empty one."""
        if len(self.clusters) == 0:
            nobody = self.students[:0]
            return Lesson(nobody, nobody, nobody.new_zeros((2, 0)))
        drawn = self._random(generator, self.config.students_per_step, len(self.clusters))  # (S,)
        students = self._members(self.students, self.student_groups[:, drawn], generator)
        if len(self.all_teachers) <= self.config.all_teachers:
            return self._lesson_of_all(students)
        rows = self.clusters[torch.unique(drawn)].repeat_interleave(self.config.teachers_per_cluster)
        own = self._members(self.teachers, self.teacher_groups[:, rows], generator)
        others = self._random(generator, self.config.random_teachers, len(self.all_teachers))
        return self._lesson(students, torch.unique(torch.cat([own, self.all_teachers[others]])))

    def of_batch(self, ids: Tensor) -> Lesson:
        """The students and teachers among ids (B,): the paper's reading, in which cold ids never learn."""
        distinct = torch.unique(ids)
        return self._lesson(
            distinct[torch.isin(distinct, self.students)], distinct[torch.isin(distinct, self.all_teachers)]
        )

    def _lesson(self, students: Tensor, teachers: Tensor) -> Lesson:
        """Clusters are compared at the length of each student's."""
        shared = self.prefixes[teachers].T[self.level[students]] == self.cluster[students, None]  # (S, T)
        return Lesson(students, teachers, shared.nonzero().T)

    def _lesson_of_all(self, students: Tensor) -> Lesson:
        """The same with all teachers, whose groups are known."""
        start, size = self.teacher_groups[:, self.cluster[students]]  # (S,)
        student = torch.arange(len(students), device=size.device).repeat_interleave(size)  # (P,)
        inside = torch.arange(len(student), device=size.device) - (size.cumsum(0) - size)[student]
        return Lesson(students, self.all_teachers, torch.stack([student, self.places[start[student] + inside]]))

    def _members(self, ids: Tensor, groups: Tensor, generator: torch.Generator) -> Tensor:
        """One random id of every group (2, G) of sorted ids: (G,)."""
        start, size = groups
        return ids[start + self._random(generator, len(size), size)]

    def _random(self, generator: torch.Generator, count: int, below: int | Tensor) -> Tensor:
        """Uniform integers (count,) from 0 to below `below`, one number or one each."""
        # in double precision no product is rounded up to the excluded end
        share = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)
        return (share.to(self.students.device) * below).long()


def transfer_loss(
    embedding: ClusterGuidedEmbedding, lesson: Lesson, impressions: Tensor, config: ModelConfig
) -> Tensor:
    """L_trans of one lesson (paper, equation 4), a scalar whose gradient reaches own rows of c only.

    Teachers show e or c, and behind a stop-gradient only students move. With ``lambda_teacher`` above 0 teachers also
    learn from their students. Without ``transfer_stop_gradient`` both ends of either loss move: the symmetric control
    of method.md 9.2, A1.
    """
    students, teachers = lesson.students, lesson.teachers
    stopped = config.transfer_stop_gradient
    student_c = embedding.cluster(students, own_rows_only=True)
    with torch.set_grad_enabled(torch.is_grad_enabled() and not stopped):
        show = embedding.fused if config.teacher == "fused" else embedding.cluster
        shown = show(teachers, own_rows_only=True)
    weights = class_balanced_weights(impressions[students], config.class_balance)
    temperature = config.transfer_temperature
    loss = config.lambda_student * info_nce(student_c, shown, lesson.pairs, weights, temperature)
    if config.lambda_teacher:
        teacher_c = embedding.cluster(teachers, own_rows_only=True)
        weights = class_balanced_weights(impressions[teachers], config.class_balance)
        seen = student_c.detach() if stopped else student_c
        back = info_nce(teacher_c, seen, lesson.pairs.flip(0), weights, temperature)
        loss = loss + config.lambda_teacher * back
    return loss


def info_nce(anchors: Tensor, keys: Tensor, pairs: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Weighted multi-positive InfoNCE on cosines: a scalar, at least 0; 0 when no anchor has a positive.

    Args:
        anchors: (A, d), receive the gradient.
        keys: (K, d), which the caller detaches where they are to stay.
        pairs: (2, P) anchors and their positives among the keys, each pair once.
        weights: (A,).
        temperature: above 0.
    """
    if pairs.numel() == 0:
        return anchors.sum() * 0.0
    with torch.autocast(anchors.device.type, enabled=False):
        precise = torch.promote_types(anchors.dtype, torch.float32)
        anchors, keys = unit(anchors.to(precise)), unit(keys.to(precise))
        return _InfoNCE.apply(anchors, keys, pairs, weights.to(precise), temperature)


class _InfoNCE(torch.autograd.Function):
    """`info_nce` of rows of length 1. The gradient, a softmax over all keys less one over the positives, is taken with
    the loss: autograd would keep and walk several matrices (A, K), which are most of the cost of the transfer.
    """

    @staticmethod
    def forward(ctx, anchors: Tensor, keys: Tensor, pairs: Tensor, weights: Tensor, temperature: float) -> Tensor:
        anchor, key = pairs
        scores = anchors @ keys.T / temperature  # (A, K)
        positives = torch.bincount(anchor, minlength=len(anchors))  # (A,)
        weights = weights * (positives > 0)
        weights = weights / weights.sum().clamp_min(1e-12)
        weights = weights * (positives < len(keys))  # with positives alone there is nothing to tell apart: exactly 0

        own = scores[anchor, key]  # (P,)
        highest = scores.amax(1)  # (A,)
        highest_own = highest.scatter_reduce(0, anchor, own, "amax", include_self=False)
        own = torch.exp(own - highest_own[anchor])
        own_sum = torch.zeros_like(highest).index_add_(0, anchor, own)
        shares = scores.sub_(highest[:, None]).exp_()
        every_sum = shares.sum(1)
        losses = highest - highest_own + torch.log(every_sum / own_sum.clamp_min(1e-12))  # (A,)

        gradient = shares.mul_((weights / every_sum / temperature)[:, None])  # (A, K), of the scores
        gradient[anchor, key] -= (weights / own_sum.clamp_min(1e-12) / temperature)[anchor] * own
        moving = ctx.needs_input_grad[1]
        ctx.save_for_backward(gradient @ keys, gradient.T @ anchors if moving else None)
        return (weights * losses.clamp_min(0)).sum()

    @staticmethod
    def backward(ctx, of_loss: Tensor) -> tuple[Tensor | None, ...]:
        of_anchors, of_keys = ctx.saved_tensors
        return of_loss * of_anchors, None if of_keys is None else of_loss * of_keys, None, None, None


def class_balanced_weights(impressions: Tensor, beta: float) -> Tensor:
    """(1 - beta) / (1 - beta^n) over its mean, clipped to [.1, 10], for n (B,) (Cui et al. 2019, equation 10)."""
    if beta == 0:
        return torch.ones(len(impressions), device=impressions.device)
    n = impressions.clamp_min(1).double()
    weights = -(1 - beta) / torch.expm1(n * math.log(beta))
    return (weights / weights.mean()).clamp(0.1, 10.0).float()
