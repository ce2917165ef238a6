"""What encoding gave of every row."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from akt_spark.content.arrow import vectors_to_arrow
from akt_spark.content.encoders import Encoded

COLUMNS = (
    "image_missing BOOLEAN, image_corrupt BOOLEAN, n_tokens INT, truncated BOOLEAN, error STRING, vector ARRAY<FLOAT>"
)


@dataclass
class EncodedRows:
    """Like `Encoded`, with (N,) ``errors``: why a row has no vector, or None."""

    vectors: np.ndarray
    image_missing: np.ndarray
    image_corrupt: np.ndarray
    n_tokens: np.ndarray
    truncated: np.ndarray
    errors: list[str | None]

    @classmethod
    def empty(cls, rows: int, dim: int) -> EncodedRows:
        """Room for ``rows`` results."""
        return cls(
            vectors=np.zeros((rows, dim), dtype=np.float32),
            image_missing=np.zeros(rows, dtype=bool),
            image_corrupt=np.zeros(rows, dtype=bool),
            n_tokens=np.zeros(rows, dtype=np.int32),
            truncated=np.zeros(rows, dtype=bool),
            errors=[None] * rows,
        )

    def put(self, rows: np.ndarray, encoded: Encoded) -> None:
        """Results of some rows."""
        for field in fields(Encoded):
            getattr(self, field.name)[rows] = getattr(encoded, field.name)

    def fail(self, rows: np.ndarray, error: str) -> None:
        """One error for some rows."""
        for row in rows:
            self.errors[row] = error

    def take(self, chosen: np.ndarray) -> EncodedRows:
        """The results at the given places."""
        arrays = {field.name: getattr(self, field.name)[chosen] for field in fields(Encoded)}
        return EncodedRows(**arrays, errors=[self.errors[row] for row in chosen])

    def to_arrow(self) -> dict[str, pa.Array]:
        """The columns of COLUMNS; all but the error are null where there is one."""
        failed = np.array([error is not None for error in self.errors], dtype=bool)
        return {
            "image_missing": pa.array(self.image_missing, mask=failed),
            "image_corrupt": pa.array(self.image_corrupt, mask=failed),
            "n_tokens": pa.array(self.n_tokens, mask=failed),
            "truncated": pa.array(self.truncated, mask=failed),
            "error": pa.array(self.errors, type=pa.string()),
            "vector": vectors_to_arrow(self.vectors, failed),
        }
