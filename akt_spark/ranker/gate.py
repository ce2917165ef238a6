"""Gates driven by activity: BatchNorm, Linear, Sigmoid, kept inside a floor (method.md 5.2 and 6.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.config import ModelConfig

COUNTS = slice(0, 3)  # the activity features log1p of clicks, of impressions, of carts and purchases


class ActivityScaler(nn.Module):
    """Standardises activity features by the statistics of the ids that were active in the training period.

    The statistics are buffers of the checkpoint, so a model scores later look-ups on the scale it was trained on.
    """

    def __init__(self, activity: Tensor, impressions: Tensor) -> None:
        """Takes activity (N, F) and training impressions (N,) of all ids."""
        super().__init__()
        active = activity[impressions > 0]  # (M, F)
        known = active if len(active) else activity
        self.register_buffer("mean", known.mean(0))
        self.register_buffer("std", known.std(0, correction=0).clamp_min(1e-3))

    def forward(self, activity: Tensor) -> Tensor:
        """Activity (B, F) to (B, F) of about zero mean and unit variance."""
        return (activity - self.mean) / self.std

    def inverse(self, scaled: Tensor) -> Tensor:
        """What was scaled, (B, F)."""
        return scaled * self.std + self.mean


class ActivityGate(nn.Module):
    """``floor + (1 - 2 floor) * sigmoid(w BN(a) + b)``, .5 for everybody at the start.

    The floor and the zero start keep the cluster part of heads trained by clicks; without them the teachers starve
    (method.md 5.2).
    """

    def __init__(self, features: int, floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.norm = nn.BatchNorm1d(features, affine=False)  # the linear layer has the scale and the shift
        self.linear = nn.Linear(features, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, activity: Tensor, frozen: bool = False) -> Tensor:
        """Scaled activity (B, F) to weights (B, 1) in [floor, 1 - floor].

        ``frozen`` normalises by the running statistics in training too: for ids that are not a batch of samples.
        """
        with torch.autocast(activity.device.type, enabled=False):  # 8 bits are few to tell activities apart
            if frozen:
                normal = F.batch_norm(activity, self.norm.running_mean, self.norm.running_var, eps=self.norm.eps)
            else:
                normal = self.norm(activity)
            return self.floor + (1 - 2 * self.floor) * torch.sigmoid(self.linear(normal))

    def slope(self, activity: Tensor, feature: int) -> Tensor:
        """Derivative of the weight by one feature, at scaled activity (B, F) and frozen statistics: (B,)."""
        span = 1 - 2 * self.floor
        share = (self(activity, frozen=True)[:, 0] - self.floor) / span  # the sigmoid
        per_unit = torch.rsqrt(self.norm.running_var[feature] + self.norm.eps)
        return span * share * (1 - share) * self.linear.weight[0, feature] * per_unit


class ConstantGate(nn.Module):
    """One half for everybody: the control of the learned gate."""

    def forward(self, activity: Tensor, frozen: bool = False) -> Tensor:
        """Scaled activity (B, F) to (B, 1)."""
        return activity.new_full((len(activity), 1), 0.5)


class ShrinkageGate(nn.Module):
    """``kappa / (kappa + n)`` inside the floor, n the events so far of the most frequent kind (method.md 5.2).

    That kind are impressions, unless the log does not say what was shown. There is nothing to learn.
    """

    def __init__(self, scaler: ActivityScaler, kappa: float, floor: float) -> None:
        super().__init__()
        self.scaler, self.kappa, self.floor = scaler, kappa, floor

    def forward(self, activity: Tensor, frozen: bool = False) -> Tensor:
        """Scaled activity (B, F) to (B, 1)."""
        counts = torch.expm1(self.scaler.inverse(activity)[:, COUNTS]).clamp_min(0)  # (B, 3)
        n = counts.amax(1, keepdim=True)
        return self.floor + (1 - 2 * self.floor) * self.kappa / (self.kappa + n)


def new_gate(config: ModelConfig, scaler: ActivityScaler, features: int) -> nn.Module:
    """The gate of an entity with so many activity features, as configured."""
    if config.gate == "constant":
        return ConstantGate()
    if config.gate == "shrinkage":
        return ShrinkageGate(scaler, config.gate_kappa, config.gate_floor)
    return ActivityGate(features, config.gate_floor)
