"""Photos as a Qwen-VL model sees them: resized to a pixel budget, cut into patches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from akt_spark.content.encoders.images import image_size, read_image
from akt_spark.errors import ConfigError

MAX_ASPECT = 200  # the models' own limit: a longer strip shows nothing
SETTINGS = (
    *("patch_size", "merge_size", "temporal_patch_size"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
)


class QwenImages:
    """Turns encoded images into patches; torchvision, which the stock processors want, is not needed."""

    def __init__(self, folder: Path, min_pixels: int, max_pixels: int) -> None:
        """Reads the folder's preprocessor_config.json, or processor_config.json; its pixel budget is not used.

        Raises:
            ConfigError: when it has neither.
        """
        try:
            self.processor = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
        except OSError:
            raise ConfigError(
                f"encoder.model {folder} has no preprocessor_config.json, which tells how it sees images: add the "
                "file, or set encoder.use_images to false"
            ) from None
        self.min_pixels, self.max_pixels = min_pixels, max_pixels
        self.side = self.processor.patch_size * self.processor.merge_size  # pixels a side that make one token

    @property
    def settings(self) -> dict[str, Any]:
        """All that the pixels depend on."""
        own = {name: getattr(self.processor, name) for name in SETTINGS}
        return own | {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}

    def read(self, data: bytes) -> Image.Image | None:
        """The image within the budget, its sides multiples of `side`; None where there is none, or only a strip."""
        image = read_image(data)
        size = None if image is None else self._target(image.size)
        return None if size is None else image.resize(size, Image.Resampling.BICUBIC)

    def expected_tokens(self, data: bytes) -> int:
        """Tokens that the image will take by its header; it may still prove corrupt."""
        size = image_size(data)
        target = None if size is None else self._target(size)
        return 0 if target is None else self._tokens(target)

    def tokens(self, image: Image.Image) -> int:
        """Tokens of an image that was read."""
        return self._tokens(image.size)

    def patches(self, images: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        """Patches of all images (P, channels * frames * patch * patch) float32, and (B, 3) patches a side."""
        seen = self.processor(images=list(images), do_resize=False, return_tensors="pt")
        return seen["pixel_values"], seen["image_grid_thw"]

    def _target(self, size: tuple[int, int]) -> tuple[int, int] | None:
        width, height = size
        if max(size) > MAX_ASPECT * min(size):
            return None
        height, width = smart_resize(height, width, self.side, self.min_pixels, self.max_pixels)
        return width, height

    def _tokens(self, size: tuple[int, int]) -> int:
        return (size[0] // self.side) * (size[1] // self.side)
