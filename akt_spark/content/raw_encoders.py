"""What raw revisions are made of: vectors of two encoders never mix under one revision.

A revision hashes what its encoder is made of, so two encoders share one only where somebody set ``encoder.revision``
(then another model, prompt, pixel budget or ALGORITHM is a difference), where weights inside a package were exchanged
while its version stayed, or where a family of one's own computes its revision from too little.
"""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from pyspark.sql import functions as F

from akt_spark.content.encoders import EncoderSpec
from akt_spark.errors import ConfigError
from akt_spark.lake import Lake

TABLE = "content.raw_encoders"


def hold_to_record(lake: Lake, spec: EncoderSpec, ds: date) -> None:
    """Records what a revision is made of when it is first used, and holds later runs to it.

    Raises:
        ConfigError: when the configured encoder differs from the recorded one; it names every difference.
    """
    made_of = json.dumps(spec.made_of, sort_keys=True)
    recorded = _recorded(lake, spec.revision)
    if recorded is None:
        row = (spec.revision, spec.family, spec.dim, made_of, ds)
        lake.insert_new(TABLE, lake.spark.createDataFrame([row], lake.schema(TABLE)))
        recorded = _recorded(lake, spec.revision)  # of two first runs at once, one is held to the other's
    found = differences(json.loads(recorded), json.loads(made_of))
    if found:
        raise ConfigError(
            f"{spec.revision} holds vectors of another encoder ({'; '.join(found)}): set encoder.revision to a name "
            "that is not in use, or remove it to let a hash name the encoder; or take back what was changed"
        )


def _recorded(lake: Lake, revision: str) -> str | None:
    lake.register(TABLE)
    row = lake.read(TABLE).where(F.col("revision") == revision).head()
    return row["spec"] if row else None


def differences(recorded: dict[str, Any], configured: dict[str, Any]) -> list[str]:
    """``key: recorded -> configured`` of every key whose values differ; keys of nested values are joined by dots."""
    before, after = _flat(recorded), _flat(configured)
    return [
        f"{key}: {before.get(key, 'nothing')} -> {after.get(key, 'nothing')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
