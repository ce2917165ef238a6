"""The tokens that a Qwen-VL model reads: a prompt's fixed parts, an image's placeholders, and the text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import Tokenizer

from akt_spark.content.encoders.image_text import TextTokens
from akt_spark.errors import ConfigError

IMAGE = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")


class QwenPrompt:
    """Puts texts and images into a prompt with ``{text}`` and ``{image}``.

    Only the text is ever cut. It is read as plain words: ``<|image_pad|>`` or ``<|im_end|>`` in a title opens no image
    and closes no turn.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: str, max_tokens: int) -> None:
        """Reads the fixed parts.

        Raises:
            ConfigError: when they leave no room for a text.
        """
        self.tokenizer = tokenizer
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.start, self.pad, self.end = (tokenizer.token_to_id(token) for token in IMAGE)
        parts = [part for part in re.split(r"(\{image\}|\{text\})", prompt) if part]
        self.parts = [part if part in ("{image}", "{text}") else self._fixed(part) for part in parts]
        self.fixed = sum(len(part) for part in self.parts if isinstance(part, list))
        self.room = max_tokens - self.fixed
        if self.room < 1:
            raise ConfigError(
                f"encoder.max_tokens is {max_tokens}, but encoder.prompt alone has {self.fixed} tokens: raise "
                "encoder.max_tokens, or shorten encoder.prompt"
            )
        self.tokenizer.encode_special_tokens = True  # from here on only texts are read

    def cut(self, texts: Sequence[str]) -> list[TextTokens]:
        """Tokens of the texts alone, as many as there is room for."""
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [TextTokens(encoding.ids[: self.room], len(encoding) > self.room) for encoding in encodings]

    def tokens(self, text: TextTokens, image_tokens: int = 0) -> list[int]:
        """The whole prompt, with that many placeholders for the image; with none, as if ``{image}`` were not there."""
        image = [self.start, *[self.pad] * image_tokens, self.end] if image_tokens else []
        given = {"{image}": image, "{text}": text.ids}
        return [token for part in self.parts for token in (part if isinstance(part, list) else given[part])]

    def _fixed(self, part: str) -> list[int]:
        self.tokenizer.encode_special_tokens = False
        return self.tokenizer.encode(part, add_special_tokens=False).ids
