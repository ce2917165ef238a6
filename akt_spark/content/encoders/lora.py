"""Low-rank adapters (LoRA, arXiv 2106.09685) on the projections of a loaded encoder."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from akt_spark.content.encoders import Encoder
from akt_spark.errors import ConfigError

# the attention of the language model, and of qwen_vl what hands the image over to it
TARGETS = {
    "minilm_vl": r"encoder\.layer\.\d+\.attention\.(self\.(query|key|value)|output\.dense)",
    "qwen_vl": r"language_model\.layers\.\d+\.self_attn\.[qkvo]_proj|visual\.(merger|deepstack_merger_list\.\d+)\..+",
}
MODELS = {"minilm_vl": "text", "qwen_vl": "model"}  # the attribute of the encoder; all else of it stays as it is


class LoraLinear(nn.Module):
    """y = W x + (alpha / rank) B A dropout(x). B starts as zero, so that nothing changes before the first step."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.base, self.scale, self.dropout = base, alpha / rank, nn.Dropout(dropout)
        place = {"device": base.weight.device, "dtype": torch.float32}  # also where the base is rounded to bfloat16
        self.down = nn.Linear(base.in_features, rank, bias=False, **place)
        self.up = nn.Linear(rank, base.out_features, bias=False, **place)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        adapted = self.up(self.down(self.dropout(x.float()))) * self.scale
        return self.base(x) + adapted.to(x.dtype)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The base with the adapter added to its weight: the same function, at no cost."""
        weight = self.base.weight.float() + self.scale * self.up.weight @ self.down.weight
        self.base.weight.copy_(weight)
        return self.base


def attach(encoder: Encoder, family: str, rank: int, alpha: float, dropout: float = 0.0) -> dict[str, LoraLinear]:
    """Puts an adapter beside every target of the family, and freezes everything else.

    Returns:
        The adapters by the name of what they adapt.

    Raises:
        ConfigError: when the model has none of the family's projections.
    """
    model: nn.Module = getattr(encoder, MODELS[family])
    for part in vars(encoder).values():
        if isinstance(part, nn.Module):
            part.requires_grad_(False)
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(TARGETS[family], name)
    }
    if not found:
        raise ConfigError(
            f"{type(model).__name__} has no layers named like {TARGETS[family]}, so alignment.method lora has nothing "
            "to adapt: set alignment.method to head"
        )
    adapters = {name: LoraLinear(linear, rank, alpha, dropout) for name, linear in found.items()}
    for name, adapter in adapters.items():
        model.set_submodule(name, adapter)
    return adapters


def adapter_state(adapters: dict[str, LoraLinear]) -> dict[str, Tensor]:
    """The trained weights."""
    return {f"{name}.{half}": getattr(lora, half).weight for name, lora in adapters.items() for half in ("down", "up")}


@torch.no_grad()
def load_adapters(encoder: Encoder, family: str, rank: int, alpha: float, state: dict[str, Tensor]) -> None:
    """Adds trained adapters to the weights of a loaded encoder.

    Raises:
        ConfigError: when they are of another model.
    """
    adapters = attach(encoder, family, rank, alpha)
    own = adapter_state(adapters)
    if {name: w.shape for name, w in own.items()} != {name: w.shape for name, w in state.items()}:
        raise ConfigError(f"the adapter has {len(state)} weights that do not fit the {len(own)} of {family}'s model")
    for name, weight in own.items():
        weight.copy_(state[name])
    model: nn.Module = getattr(encoder, MODELS[family])
    for name, adapter in adapters.items():
        model.set_submodule(name, adapter.merged())
