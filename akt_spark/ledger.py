"""``ops.runs``: what every stage of every run did, and the memory by which finished work is skipped."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import date, datetime

from pyspark.sql import functions as F

from akt_spark.lake import Lake

TABLE = "ops.runs"


@dataclass(frozen=True)
class Record:
    """One row of ``ops.runs`` (``schemas/ops.runs.sql`` says what each column means)."""

    run_id: str
    stage: str
    ds: date
    status: str
    fingerprint: str
    code_revision: str
    config: str
    inputs: dict[str, int]
    outputs: dict[str, int]
    rows_in: int
    rows_out: int
    quarantined: int
    seconds: float
    notes: list[str]
    error: str | None
    started_at: datetime

    def skipped(self, started_at: datetime) -> Record:
        """The record of a run that found this one done."""
        return replace(self, status="skipped", seconds=0.0, started_at=started_at)


class Ledger:
    """The records of one run id. Finished stages are read once; a job appends what it runs itself."""

    def __init__(self, lake: Lake, run_id: str) -> None:
        self._lake = lake
        lake.register(TABLE)
        rows = lake.read(TABLE).where((F.col("run_id") == run_id) & (F.col("status") == "done"))
        self._done = [Record(**row.asDict()) for row in rows.orderBy("started_at").collect()]

    def done(self, stage: str, fingerprint: str) -> Record | None:
        """The newest run of a stage, if its fingerprint is the given one."""
        newest = next((record for record in reversed(self._done) if record.stage == stage), None)
        return newest if newest is not None and newest.fingerprint == fingerprint else None

    def append(self, *records: Record) -> None:
        """Writes records. A skipped stage is worth a row too: it shows that the night looked."""
        if records:
            schema = self._lake.schema(TABLE)
            self._lake.append(TABLE, self._lake.spark.createDataFrame([asdict(record) for record in records], schema))
