"""The prompt user model: a frozen language model with adapters reads a prompt with item vectors in it (method.md 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional as F

from akt_spark.config import InterestConfig, fingerprint
from akt_spark.content.artifacts import load_model, save_state, state_hash
from akt_spark.content.batching import token_batches
from akt_spark.content.encoders import Encoded, EncoderSpec, Prepared
from akt_spark.content.encoders.language import language_of, text_only
from akt_spark.content.encoders.lora import adapter_state, attach, load_adapters
from akt_spark.content.user_prompt import INTEREST, ITEM, PromptReader, ReadPrompt, UserPrompt, template_fingerprint

KIND = "interest_prompt"
ALGORITHM = 1  # raise it when a change of these files changes vectors
RIDGE = 0.1  # of the regression that training starts from, against standardised states


@dataclass(frozen=True)
class PreparedPrompts(Prepared):
    """B prompts as tokens."""

    read: list[ReadPrompt]


class PromptInterest(nn.Module):
    """A user's prompt to the aligned vector of the next click.

    Every item in the prompt is one token, a projection of its aligned vector. The last state of the interest token,
    normalised and projected, is the interest. What is trained: these projections, the interest token, and adapters of
    the language model's attention. The language model itself is no part of this module: it neither trains, nor drops
    anything out, nor is saved. An `Encoder`, whose texts are `UserPrompt`s, but for `forward`, which records a graph.
    """

    def __init__(
        self, base: EncoderSpec, device: str, config: InterestConfig, dim: int, categories: int, seed: int = 0
    ) -> None:
        """Loads the language model; what is trained is drawn at random, from the seed."""
        super().__init__()
        self.base, self.config, self.dim, self.categories = text_only(base), config, dim, categories
        self.encoder = [self.base.load(device)]  # in a list: no part of the module
        self.language = language_of(self.encoder[0], base.family)
        self.reader = PromptReader(self.language, config)
        width, table = self.language.width, self.language.table.weight.detach().float()
        torch.manual_seed(seed)
        self.item = nn.Linear(dim, width)
        self.interest = nn.Parameter(table.mean(0).cpu() + table.std().cpu() * torch.randn(width))
        self.register_buffer("shift", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.next_vector = nn.Linear(width, dim)
        self.next_category = nn.Linear(width, categories)
        nn.init.normal_(self.item.weight, std=table.std().item())  # as long as a word's embedding
        with torch.no_grad():
            self.item.bias.copy_(table.mean(0))
        self.to(self.language.device)
        self.adapters: dict[str, LoraLayer] = {}
        self.lora = nn.ModuleList()

    def adapt(self) -> None:
        """Puts untrained adapters into the language model."""
        lora = self.config.prompt
        self.adapters = attach(self.encoder[0], self.base.family, lora.rank, lora.alpha, lora.dropout)
        self.lora.extend(self.adapters.values())

    def forward(self, read: Sequence[ReadPrompt]) -> tuple[Tensor, Tensor]:
        """B prompts to L2-normalised interests (B, dim), and states (B, width) for `next_category`."""
        longest, device = max(len(prompt.ids) for prompt in read), self.language.device
        ids = torch.tensor([p.ids + [0] * (longest - len(p.ids)) for p in read], device=device)  # (B, T)
        mask = torch.tensor([[1] * len(p.ids) + [0] * (longest - len(p.ids)) for p in read], device=device)
        vectors = torch.from_numpy(np.concatenate([prompt.vectors for prompt in read])).to(device)  # (all items, dim)
        words = self.language.table(ids.clamp(min=0))  # (B, T, width)
        tokens = words.masked_scatter((ids == ITEM)[..., None], self.item(vectors).to(words.dtype))
        tokens = torch.where((ids == INTEREST)[..., None], self.interest.to(words.dtype), tokens)
        state = self.language.states(tokens, mask)[ids == INTEREST].float()  # (B, width)
        state = (state - self.shift) * self.scale
        predicted = self.next_vector(state)
        if self.config.prompt.add_mean:
            predicted = predicted + self._mean(read)
        return F.normalize(predicted, dim=-1), state

    @torch.no_grad()
    def start_from(self, prompts: Sequence[UserPrompt], targets: Tensor, batch_size: int, batch_tokens: int) -> None:
        """Sets shift, scale and projection so that untrained adapters predict ``targets`` (P, dim) by ridge regression.

        Most of a state is the same for every user: training from a random projection would first learn to answer all of
        them alike, and hardly leave that place (and it would distort the adapters, arXiv 2202.10054).
        """
        read = self.reader.read(prompts)
        states = torch.zeros(len(read), self.language.width, device=targets.device)
        means = torch.zeros_like(targets)
        for batch in token_batches(np.array([len(one.ids) for one in read]), batch_size, batch_tokens):
            chosen = [read[i] for i in batch]
            states[torch.from_numpy(batch)] = self.eval()(chosen)[1]
            means[torch.from_numpy(batch)] = self._mean(chosen)
        self.shift.copy_(states.mean(0))
        self.scale.copy_(1 / states.std(0).clamp(min=1e-6))
        wanted = targets - means if self.config.prompt.add_mean else targets
        known = (states - self.shift) * self.scale
        moments = known.T @ known / len(known) + RIDGE * torch.eye(known.shape[1], device=known.device)
        self.next_vector.weight.copy_(torch.linalg.solve(moments, known.T @ (wanted - wanted.mean(0)) / len(known)).T)
        self.next_vector.bias.copy_(wanted.mean(0))

    def _mean(self, read: Sequence[ReadPrompt]) -> Tensor:
        """(B, dim) means of the vectors in each prompt; zero where there are none."""
        device = self.language.device
        counts = torch.tensor([len(prompt.vectors) for prompt in read], device=device)
        user = torch.arange(len(read), device=device).repeat_interleave(counts)
        vectors = torch.from_numpy(np.concatenate([prompt.vectors for prompt in read])).to(device)
        total = torch.zeros(len(read), self.dim, device=device).index_add(0, user, vectors)
        return total / counts.clamp(min=1)[:, None]

    def encode(self, prompts: Sequence[UserPrompt], batch_size: int, batch_tokens: int) -> np.ndarray:
        """(B, dim) float32 interests of B prompts."""
        found = np.zeros((len(prompts), self.dim), dtype=np.float32)
        encoder = PromptEncoder(self, "")
        for batch in token_batches(encoder.lengths(prompts, []), batch_size, batch_tokens):
            found[batch] = encoder.forward(encoder.prepare([prompts[i] for i in batch], [])).vectors
        return found

    def trained(self) -> dict[str, Tensor]:
        """The weights that are trained, by name."""
        own = {name: weight for name, weight in self.state_dict(keep_vars=True).items() if not name.startswith("lora.")}
        return own | {f"adapters.{name}": weight for name, weight in adapter_state(self.adapters).items()}

    def description(self) -> dict[str, Any]:
        """All that a vector depends on beside the trained weights."""
        lora = self.config.prompt
        return {
            "kind": KIND,
            "algorithm": ALGORITHM,
            "template": template_fingerprint(),
            "base": base_fingerprint(self.base),
            "dim": self.dim,
            "categories": self.categories,
            "lora": {"rank": lora.rank, "alpha": lora.alpha},
            "reads": self.config.reads,
        }

    def content_hash(self) -> str:
        """Changes with anything that changes a vector."""
        return state_hash(self.trained(), self.description())

    def save(self, folder: Path) -> None:
        """Writes the model folder: trained weights only."""
        save_state(folder, self.trained(), self.description())

    @classmethod
    def load(cls, base: EncoderSpec, device: str, folder: str | Path) -> PromptInterest:
        """Reads a model folder; the adapters are added to the language model's weights."""
        state, about = load_model(folder)
        model = cls(base, device, InterestConfig.model_validate(about["reads"]), about["dim"], about["categories"])
        adapters = {name.removeprefix("adapters."): w for name, w in state.items() if name.startswith("adapters.")}
        load_adapters(model.encoder[0], base.family, **about["lora"], state=adapters)
        own = model.trained()
        with torch.no_grad():
            for name, weight in own.items():
                weight.copy_(state[name])
        return model.eval()


class PromptEncoder:
    """A loaded model as an `Encoder` whose texts are prompts."""

    def __init__(self, model: PromptInterest, revision: str) -> None:
        self.model, self.revision, self.dim = model.eval(), revision, model.dim

    def lengths(self, texts: Sequence[UserPrompt], images: Sequence[None]) -> np.ndarray:
        """(B,) tokens."""
        return np.array([len(prompt.ids) for prompt in self.model.reader.read(texts)])

    def prepare(self, texts: Sequence[UserPrompt], images: Sequence[None]) -> PreparedPrompts:
        """Tokenises B prompts."""
        read = self.model.reader.read(texts)
        sizes = [len(prompt.ids) for prompt in read]
        return PreparedPrompts(sum(sizes), len(sizes) * max(sizes), read)

    @torch.inference_mode()
    def forward(self, prepared: PreparedPrompts) -> Encoded:
        """Runs the model."""
        interests, _ = self.model(prepared.read)
        none = np.ones(len(prepared.read), dtype=bool)
        return Encoded(
            vectors=interests.cpu().numpy(),
            image_missing=none,
            image_corrupt=~none,
            n_tokens=np.array([len(prompt.ids) for prompt in prepared.read], dtype=np.int32),
            truncated=np.array([prompt.truncated for prompt in prepared.read], dtype=bool),
        )


def base_fingerprint(base: EncoderSpec) -> str:
    """What the language model is made of."""
    return fingerprint(text_only(base).made_of)
