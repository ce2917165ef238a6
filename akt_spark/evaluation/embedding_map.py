"""A map of the item vectors: a sample of them laid out in the plane, near ones near each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import functions as F
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from akt_spark.lake import Lake
from akt_spark.semantic.ids import ids_of
from akt_spark.semantic.versions import CODEBOOKS, published

FEWEST = 10  # fewer items are no map
PERPLEXITY = 30.0  # neighbours that a point minds


@dataclass(frozen=True)
class EmbeddingMap:
    """Places (N, 2) of N items, their first codes (N,) and leaf categories (N,), which may be None."""

    places: NDArray[np.float32]
    codes: NDArray[np.int32]
    categories: list[str | None]


def embedding_map(lake: Lake, items: int) -> EmbeddingMap | None:
    """Lays out at most ``items`` items, drawn by a hash, by t-SNE (van der Maaten and Hinton 2008) from a PCA.

    None without enough items that have a vector and an ID of the published codebook.
    """
    book = published(lake, "item") if lake.exists(CODEBOOKS) else None
    if book is None or not lake.exists("content.item_embeddings"):
        return None
    coded = ids_of(lake, "item", book.version).withColumnRenamed("id", "item_id")
    vectors = lake.read("content.item_embeddings").where(F.col("vector").isNotNull())
    leaf = F.try_element_at("category", F.lit(-1)).alias("leaf")
    sample = (
        coded.select("item_id", F.col("codes")[0].alias("code"))
        .join(vectors.where(F.col("revision") == book.revision).select("item_id", "vector"), on="item_id")
        .orderBy(F.xxhash64("item_id", F.lit("map")), "item_id")
        .limit(items)
    )
    rows = sample.join(lake.read("bronze.items").select("item_id", leaf), on="item_id", how="left").orderBy("item_id")
    found = rows.toPandas()
    if len(found) < FEWEST:
        return None
    vectors = np.stack(found["vector"]).astype(np.float32)
    layout = TSNE(perplexity=min(PERPLEXITY, (len(found) - 1) / 3), init="pca", max_iter=500, random_state=0)
    categories = [leaf if isinstance(leaf, str) else None for leaf in found["leaf"]]
    with threadpool_limits(1):  # its threads spin while they wait: on a busy machine two are five times slower than one
        places = layout.fit_transform(vectors)
    return EmbeddingMap(places, found["code"].to_numpy(np.int32), categories)
