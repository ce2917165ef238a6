"""A folder of photos as shops have it, from the files to vectors by the real encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from akt_spark.conf_file import load
from akt_spark.content.encoders import encoder_spec
from akt_spark.content.items import TABLE, embed_catalogue
from akt_spark.sources import ingest
from akt_spark.stage import Context
from content.conftest import DS
from content.pictures import BROKEN, WHOLE


@pytest.mark.night
def test_whatever_lies_in_the_folder_every_item_has_a_vector_and_says_what_was_seen(
    context: Context, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, data in (BROKEN | WHOLE).items():
        (photos / f"{name}.jpg").write_bytes(data)
    (photos / "notes.txt").write_text("no photo")
    names = [*BROKEN, *WHOLE, "without"]
    pd.DataFrame({"item_id": names, "title": "Red shoe"}).to_csv(tmp_path / "items.csv", index=False)
    clicks = {"user_id": "u", "item_id": names, "event_type": "click", "event_time": f"{DS} 10:00:00"}
    pd.DataFrame(clicks).to_csv(tmp_path / "events.csv", index=False)
    items = {"path": str(tmp_path / "items.csv"), "images": str(photos)}
    source = {"kind": "logs", "events": {"path": str(tmp_path / "events.csv")}, "items": items}
    config = load(None, [f"lake.root={context.lake.root}", f"source={json.dumps(source)}"])
    ctx = replace(context, config=config, ds=DS)

    ingest.run(ctx)
    report = embed_catalogue(ctx, encoder_spec(config.encoder))

    rows = {row["item_id"]: row for row in ctx.lake.read(TABLE).collect()}
    assert set(rows) == set(names)
    assert {row["error"] for row in rows.values()} == {None}
    missing = {"without", "empty"}  # Spark does not list empty files
    assert {name for name, row in rows.items() if row["image_missing"]} == missing
    assert {name for name, row in rows.items() if row["image_corrupt"]} == set(BROKEN) - missing
    of_text = np.array(rows["without"]["vector"])
    for name, row in rows.items():
        assert np.allclose(row["vector"], of_text, atol=1e-5) == (name not in WHOLE), name
    assert f"images missing 2, corrupt {len(BROKEN) - 1}" in report.notes[1]
