"""The exceptions a user can see. Each names the value that was wrong, where it came from and what to do about it."""

from __future__ import annotations


class AktError(Exception):
    """Base of every error a user can cause; a job ends with its ``exit_code`` and prints the message, not a stack."""

    exit_code = 1


class ConfigError(AktError):
    """The configuration is wrong: an unknown key, a wrong type, an impossible value, a missing file."""

    exit_code = 2


class DataError(AktError):
    """The data does not allow the stage to go on (a data gate); nothing downstream was touched."""

    exit_code = 3


class MissingInput(DataError):
    """A table that the stage reads does not exist, or is empty, because the job that makes it has not run."""

    def __init__(self, table: str, job: str, detail: str = "does not exist") -> None:
        super().__init__(f"table {table} {detail}: run jobs/{job}.py for this --ds first (or jobs/nightly.py)")
        self.table = table
        self.job = job


class SourceError(DataError):
    """Raw input cannot be read: a missing, truncated or empty file, or a missing column."""


class HealthGateError(DataError):
    """Semantic IDs (or an alignment) are worse than the configured gate allows; nothing was published."""


class EncoderError(AktError):
    """An encoder cannot be loaded on a worker, or has stalled there; what was committed before stays."""
