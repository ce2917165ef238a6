"""Fits or reuses the published codebooks and assigns semantic IDs; publishes nothing that fails its health gate.

spark-submit jobs/build_semantic_ids.py --conf-file conf/demo.yaml --ds 2018-09-24
"""

from akt_spark.jobs import main

if __name__ == "__main__":
    main("build_semantic_ids")
