"""Vectors read by the workers from the Parquet files of their table, without a detour through the JVM.

Spark hands lists of floats to Python value by value: more work than finding the nearest codes. So what goes through
Spark is where a vector lies (file and row), and Python reads the column as it is in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from akt_spark.lake import file_url
from akt_spark.semantic.arithmetic import Floats

BLOCK_ROWS = 100_000  # rows of a file that one task reads: about a row group of vectors
HELD_ROWS = 8192  # rows in memory: faster than whole row groups, each of which is new memory


def located(spark: SparkSession, files: Sequence[str], schema: StructType | None = None) -> DataFrame:
    """Rows of Parquet files, with the columns file and row: where each of them lies. Delta does not tell."""
    reader = spark.read if schema is None else spark.read.schema(schema)
    place = {"file": F.col("_metadata.file_path"), "row": F.col("_metadata.row_index")}
    return reader.parquet(*files).withColumns(place)


def by_file(rows: DataFrame) -> DataFrame:
    """The same rows (file, row, ...), those of one part of a file together and in its order: one shuffle."""
    block = F.floor(F.col("row") / F.lit(BLOCK_ROWS))
    return rows.repartition("file", block).sortWithinPartitions("file", "row")


def matrix(vectors: pa.Array, rows: int) -> Floats:
    """A list column of equal lengths as an array (rows, D)."""
    return np.asarray(vectors.flatten(), dtype=np.float32).reshape(rows, -1)


class VectorFiles:
    """Reads a list column by file and row, forward: a few thousand rows of it are in memory."""

    def __init__(self, column: str) -> None:
        self.column = column
        self._url: str | None = None

    def read(self, url: str, rows: NDArray[np.int64]) -> Iterator[Floats]:
        """Vectors of rows (N,) of a file, ascending: (n, D) after (n, D), N in all."""
        if url != self._url:
            self._open(url)
        done = 0
        while done < len(rows):
            self._find(int(rows[done]))
            end = int(np.searchsorted(rows, self._first + len(self._held)))
            yield self._of_held(rows[done:end] - self._first)
            done = end

    def _open(self, url: str) -> None:
        if url.startswith("file:"):
            self._file = pq.ParquetFile(file_url(url).removeprefix("file://"))
        else:
            files, place = pyarrow.fs.FileSystem.from_uri(url)
            self._file = pq.ParquetFile(files.open_input_file(place))
        sizes = [self._file.metadata.row_group(n).num_rows for n in range(self._file.num_row_groups)]
        self._ends = np.cumsum(sizes)
        self._url, self._first, self._left = url, 0, None

    def _find(self, row: int) -> None:
        """Goes on to the rows that hold this one; from the start of its row group, where that lies elsewhere."""
        group, reached = (int(np.searchsorted(self._ends, at, side="right")) for at in (row, self._first))
        if self._left is None or row < self._first or group > reached:
            wanted = list(range(group, len(self._ends)))
            batches = self._file.iter_batches(HELD_ROWS, row_groups=wanted, columns=[self.column], use_threads=False)
            self._first, self._held, self._left = int(self._ends[group - 1]) if group else 0, pa.array([]), batches
        while row >= self._first + len(self._held):
            self._first += len(self._held)
            self._held = next(self._left).column(0)

    def _of_held(self, wanted: NDArray[np.int64]) -> Floats:
        first = int(wanted[0])
        if int(wanted[-1]) - first + 1 == len(wanted):
            return matrix(self._held.slice(first, len(wanted)), len(wanted))
        return matrix(self._held.take(pa.array(wanted)), len(wanted))
