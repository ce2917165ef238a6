"""The language model inside a loaded encoder, for input that is not all words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from akt_spark.content.encoders import Encoder, EncoderSpec, NamedSpec
from akt_spark.errors import ConfigError


class Language(ABC):
    """Reads sequences of token embeddings, some of which may be of no word.

    Attributes:
        width: length of a token embedding and of a state.
        longest: tokens that the model has positions for.
        opening: token ids before every text.
        closing: token ids behind it.
    """

    tokenizer: Tokenizer
    width: int
    longest: int
    device: torch.device
    opening: list[int]
    closing: list[int]

    def words(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of plain texts: words that look like special tokens are words."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    @property
    @abstractmethod
    def table(self) -> nn.Embedding:
        """The embeddings of tokens."""

    @abstractmethod
    def states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Last states (B, T, width) of embedded tokens (B, T, width), and of 1 for tokens, 0 for padding at the end."""


class BertLanguage(Language):
    """MiniLM of `minilm_vl`: every token sees all others."""

    def __init__(self, encoder: Encoder) -> None:
        self.model, self.tokenizer, self.device = encoder.text, encoder.tokenizer, encoder.device
        self.tokenizer.encode_special_tokens = True  # [SEP] in a title is words
        self.width, self.longest = self.model.config.hidden_size, self.model.config.max_position_embeddings
        self.opening, self.closing = [encoder.cls], [encoder.sep]

    @property
    def table(self) -> nn.Embedding:
        return self.model.get_input_embeddings()

    def states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.model(inputs_embeds=tokens, attention_mask=mask).last_hidden_state


class QwenLanguage(Language):
    """The language model of `qwen_vl`: a token sees those before it; position t of text is (t, t, t).

    It is called without the model around it, which would shift all positions by those of the last image that it saw
    (``rope_deltas``) when it is given embeddings in place of token ids.
    """

    def __init__(self, encoder: Encoder) -> None:
        whole = encoder.model
        if not hasattr(whole, "language_model"):
            raise ConfigError(
                f"{type(whole).__name__} has no language_model that could read a user's prompt: set interest.model to "
                "transformer"
            )
        whole.visual = None  # a prompt has no images: neither memory nor adapters for them
        self.model, self.tokenizer, self.device = whole.language_model, encoder.prompt.tokenizer, encoder.device
        self.width, self.longest = self.model.config.hidden_size, self.model.config.max_position_embeddings
        self.opening, self.closing = [], []

    @property
    def table(self) -> nn.Embedding:
        return self.model.get_input_embeddings()

    def states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.model(inputs_embeds=tokens, attention_mask=mask, use_cache=False).last_hidden_state


LANGUAGES: dict[str, type[Language]] = {"minilm_vl": BertLanguage, "qwen_vl": QwenLanguage}


def language_of(encoder: Encoder, family: str) -> Language:
    """The language model of a loaded encoder, which is of no use for images afterwards.

    Raises:
        ConfigError: when the family has none.
    """
    if family not in LANGUAGES:
        raise ConfigError(
            f"encoder.family {family} has no language model that could read a user's prompt (these have: "
            f"{', '.join(LANGUAGES)}): set interest.model to transformer"
        )
    return LANGUAGES[family](encoder)


def text_only(spec: EncoderSpec) -> EncoderSpec:
    """The spec of the same encoder without eyes: it loads less, and what it is made of names no pixels."""
    if isinstance(spec, NamedSpec):
        return replace(spec, base=text_only(spec.base))
    return replace(spec, use_images=False)
