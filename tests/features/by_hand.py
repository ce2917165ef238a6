"""Tables of stages that tests of features do not run, written by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from akt_spark.lake import Lake

TRAIN_END = date(2024, 1, 25)


def write_semantic_and_content(lake: Lake) -> None:
    """Item i0 and user u0 have codes and a vector; other codebooks and the encoder before must not be read."""

    def write(table: str, rows: list[dict]) -> None:
        lake.overwrite(table, lake.spark.createDataFrame(rows, lake.schema(table)))

    books = {"old": "retired", "now": "published", "next": "candidate"}
    book = {"quantizer": "rqvae", "sizes": [4], "path": "p", "encoder_revision": "r", "config_hash": "h"}
    of_book = [book | {"codebook_version": version, "status": status} for version, status in books.items()]
    encoder = {"stage": "aligned", "family": "minilm_vl", "dim": 2, "config_hash": "h", "status": "registered"}
    days = {"before": TRAIN_END - timedelta(days=3), "good": TRAIN_END}
    both = ("item", "user")
    write("semantic.codebooks", [row | {"entity": e, "fitted_ds": TRAIN_END} for e in both for row in of_book])
    write(
        "content.encoders",
        [
            encoder
            | {"revision": f"{e}-{n}", "entity": e, "trained_until": day, "ds": day, "chosen_at": datetime.now(UTC)}
            for e in both
            for n, day in days.items()
        ],
    )
    for entity in both:
        first = {f"{entity}_id": f"{entity[0]}0", "content_hash": "h"}
        codes = {"old": [3, 3], "now": [1, 2], "next": [0, 0]}
        sid = first | {"sid": "s", "offset_codes": [0, 4], "distance": 0.5, "margin": 0.5, "assigned_ds": TRAIN_END}
        write(f"semantic.{entity}_ids", [sid | {"codebook_version": v, "codes": c} for v, c in codes.items()])
        vector = first | {"as_of": TRAIN_END} | ({"clicks": 1} if entity == "user" else {})
        vectors = {"before": [8.0, 0.0], "good": [0.5, 0.25]}
        write(
            f"content.{entity}_embeddings",
            [vector | {"revision": f"{entity}-{name}", "vector": v} for name, v in vectors.items()],
        )
