"""What encoders of images and texts share: how a batch is read, and which of its rows go through the model together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from akt_spark.content.encoders import Encoded, Prepared


@dataclass(frozen=True)
class TextTokens:
    """What is read of a text, after a cut where it was too long."""

    ids: list[int]
    truncated: bool


@dataclass(frozen=True)
class Group:
    """Rows that go through the model together.

    Attributes:
        rows: (b,) their places in the batch.
        ids: token ids of each row.
        images: what the family makes of b images; None for rows without one.
    """

    rows: np.ndarray
    ids: list[list[int]]
    images: Any | None


@dataclass(frozen=True)
class PreparedGroups(Prepared):
    """A batch of B rows; the arrays are those of `Encoded`."""

    groups: list[Group]
    image_missing: np.ndarray
    image_corrupt: np.ndarray
    n_tokens: np.ndarray
    truncated: np.ndarray


class ImageTextEncoder(ABC):
    """Rows with and without a usable image go through the model apart.

    So the vector of a row whose image is missing or corrupt is exactly that of its text.
    """

    dim: int
    sees_images: bool
    soft_tokens: ClassVar[int] = 0  # tokens that an image takes beside those in a row's ids

    def prepare(self, texts: Sequence[str], images: Sequence[bytes | None]) -> PreparedGroups:
        """Tokenises and decodes a batch: all that can be done ahead of the model, in another thread.

        Args:
            texts: B prompts.
            images: B encoded images, or None; or what `seen_once` gave for them.
        """
        read = self._read_texts(texts)
        given = [image if self.sees_images else None for image in images]
        pictures = [self._read_image(image) if image is not None else None for image in given]
        with_image = np.array([picture is not None for picture in pictures], dtype=bool)
        missing = np.array([image is None for image in given], dtype=bool)
        groups = []
        for rows in (np.flatnonzero(with_image), np.flatnonzero(~with_image)):
            if len(rows):
                ids = [self._token_ids(read[i], pictures[i]) for i in rows]
                seen = self._stack([pictures[i] for i in rows]) if with_image[rows[0]] else None
                groups.append(Group(rows, ids, seen))
        return PreparedGroups(
            tokens=sum(sum(map(len, group.ids)) + self._soft(group) for group in groups),
            padded_tokens=sum(len(group.ids) * max(map(len, group.ids)) + self._soft(group) for group in groups),
            groups=groups,
            image_missing=missing,
            image_corrupt=~missing & ~with_image,
            n_tokens=np.array([len(self._token_ids(text, None)) for text in read], dtype=np.int32),
            truncated=np.array([text.truncated for text in read], dtype=bool),
        )

    def vectors(self, prepared: PreparedGroups) -> Tensor:
        """(B, dim) float32 of length 1, with a graph where one is recorded: what training needs."""
        found = torch.cat([self._forward(group.ids, group.images) for group in prepared.groups])
        order = np.argsort(np.concatenate([group.rows for group in prepared.groups]))
        return found[torch.from_numpy(order).to(found.device)]

    @torch.inference_mode()
    def forward(self, prepared: PreparedGroups) -> Encoded:
        """Runs the model on a prepared batch."""
        return Encoded(
            vectors=self.vectors(prepared).cpu().numpy(),
            image_missing=prepared.image_missing,
            image_corrupt=prepared.image_corrupt,
            n_tokens=prepared.n_tokens,
            truncated=prepared.truncated,
        )

    def encode(self, texts: Sequence[str], images: Sequence[bytes | None]) -> Encoded:
        """Encodes B texts with their encoded images (None: no image)."""
        return self.forward(self.prepare(texts, images))

    def seen_once(self, images: Sequence[bytes | None]) -> list[Any] | None:
        """What the model makes of images before anything that adapters change; `prepare` takes it for the images.

        None where that is no saving: the image goes through what is trained.
        """
        return None

    def _soft(self, group: Group) -> int:
        return self.soft_tokens * len(group.rows) * (group.images is not None)

    @abstractmethod
    def _read_texts(self, texts: Sequence[str]) -> list[TextTokens]:
        """Tokenises and cuts texts."""

    @abstractmethod
    def _read_image(self, data: bytes) -> Any | None:
        """Decodes an image; None where it cannot be used."""

    @abstractmethod
    def _token_ids(self, text: TextTokens, picture: Any | None) -> list[int]:
        """All token ids of a row."""

    @abstractmethod
    def _stack(self, pictures: list[Any]) -> Any:
        """What the model sees of decoded images, on the CPU."""

    @abstractmethod
    def _forward(self, ids: list[list[int]], images: Any | None) -> Tensor:
        """b token lists, and what `_stack` made of as many images or None, to (b, dim) float32 of length 1."""
