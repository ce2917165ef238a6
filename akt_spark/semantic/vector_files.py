"""Vectors read by the workers from the Parquet files of their table, without a detour through the JVM.

Spark hands lists of floats to Python value by value: more work than finding the nearest codes. So what goes through
Spark is where a vector lies (file and row), and Python reads the column as it is in the file.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    """Reads a list column by file and row; keeps the row group that it has read last."""

    def __init__(self, column: str) -> None:
        self.column = column
        self._url: str | None = None
        self._group: int | None = None

    def read(self, url: str, rows: NDArray[np.int64]) -> Floats:
        """Vectors (N, D) of rows (N,) of a file, ascending."""
        if url != self._url:
            self._open(url)
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        parts = [self._of_group(group, rows[groups == group]) for group in np.unique(groups)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _open(self, url: str) -> None:
        if url.startswith("file:"):
            self._file = pq.ParquetFile(file_url(url).removeprefix("file://"))
        else:
            files, place = pyarrow.fs.FileSystem.from_uri(url)
            self._file = pq.ParquetFile(files.open_input_file(place))
        sizes = [self._file.metadata.row_group(n).num_rows for n in range(self._file.num_row_groups)]
        self._starts = np.cumsum([0, *sizes[:-1]])
        self._url, self._group = url, None

    def _of_group(self, group: int, rows: NDArray[np.int64]) -> Floats:
        if group != self._group:
            table = self._file.read_row_group(int(group), columns=[self.column], use_threads=False)
            self._vectors = table.column(0).combine_chunks()
            self._group = group
        wanted = rows - self._starts[group]
        first, last = int(wanted[0]), int(wanted[-1])
        if last - first + 1 == len(wanted):
            return matrix(self._vectors.slice(first, len(wanted)), len(wanted))
        return matrix(self._vectors.take(pa.array(wanted)), len(wanted))
