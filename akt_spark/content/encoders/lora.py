"""Low-rank adapters (LoRA, arXiv 2106.09685) on the projections of a loaded encoder, by peft."""

from __future__ import annotations

import re

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from akt_spark.content.encoders import Encoder
from akt_spark.errors import ConfigError

# the attention of the language model, and of qwen_vl what hands the image over to it
TARGETS = {
    "minilm_vl": r"encoder\.layer\.\d+\.attention\.(self\.(query|key|value)|output\.dense)",
    "qwen_vl": r"language_model\.layers\.\d+\.self_attn\.[qkvo]_proj|visual\.(merger|deepstack_merger_list\.\d+)\..+",
}
MODELS = {"minilm_vl": "text", "qwen_vl": "model"}  # the attribute of the encoder; all else of it stays as it is


def attach(encoder: Encoder, family: str, rank: int, alpha: float, dropout: float = 0.0) -> dict[str, LoraLayer]:
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
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(TARGETS[family], name)
    ]
    if not names:
        raise ConfigError(
            f"{type(model).__name__} has no layers named like {TARGETS[family]}, so alignment.method lora has nothing "
            "to adapt: set alignment.method to head"
        )
    exactly = "|".join(map(re.escape, names))
    chosen = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=exactly)
    inject_adapter_in_model(chosen, model)
    adapters = {name: model.get_submodule(name) for name in names}
    for adapter in adapters.values():
        for half in halves(adapter).values():
            half.float()  # also where the base is rounded to bfloat16
    return adapters


def halves(adapter: LoraLayer) -> dict[str, nn.Linear]:
    """``down`` and ``up``: y = W x + (alpha / rank) up(down(dropout(x))). Up starts as zero: nothing changes before
    the first step."""
    return {"down": adapter.lora_A["default"], "up": adapter.lora_B["default"]}


def adapter_state(adapters: dict[str, LoraLayer]) -> dict[str, Tensor]:
    """The trained weights."""
    return {f"{name}.{half}": one.weight for name, lora in adapters.items() for half, one in halves(lora).items()}


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
        adapter.merge()
        model.set_submodule(name, adapter.get_base_layer())  # the same function, at no cost
