"""What every stage receives and returns: the seam between the pipeline and the packages that do the work."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from akt_spark.config import Config
    from akt_spark.lake import Lake


@dataclass(frozen=True)
class Context:
    """One stage of one run: the session, the tables, the resolved configuration and the closed day it works for."""

    spark: SparkSession
    lake: Lake
    config: Config
    ds: date
    run_id: str


@dataclass
class Outcome:
    """What a stage did, for its summary and for ``ops.runs``.

    Attributes:
        rows_in: rows read from the stage's main inputs (of `ingest`: all raw events, items and users).
        rows_out: rows of its main outputs.
        quarantined: rejected rows, all of which are in ``bronze.quarantine``.
        notes: the lines a person reads when the stage has ended.
    """

    rows_in: int = 0
    rows_out: int = 0
    quarantined: int = 0
    notes: list[str] = field(default_factory=list)
