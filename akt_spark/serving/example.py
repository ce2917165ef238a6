"""Scores pairs of a user and an item as of the moment of the export. It needs torch, pyarrow and numpy, no Spark.

python example.py pairs.parquet scores.parquet
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

HERE = Path(__file__).parent
METADATA = json.loads((HERE / "metadata.json").read_text())


def inputs(entity: str, ids: pa.ChunkedArray) -> dict[str, torch.Tensor]:
    """What the model reads of users, or of items; of unknown ones, what the metadata says."""
    table = pq.read_table(HERE / f"{entity}s")
    row = pc.fill_null(pc.index_in(ids, table[f"{entity}_id"].combine_chunks()), len(table)).to_numpy()
    columns = {}
    for name, unknown in METADATA["unknown"][entity].items():
        values = np.array([*table[name].to_pylist(), unknown], METADATA["inputs"][name]["dtype"])
        columns[name] = torch.from_numpy(values[row])
    return columns


model = torch.export.load(HERE / "model.pt2").module()
pairs = pq.read_table(sys.argv[1])
scores = model(**inputs("user", pairs["user_id"]), **inputs("item", pairs["item_id"])).detach().numpy()
pq.write_table(pairs.append_column("score", pa.array(scores)), sys.argv[2])
