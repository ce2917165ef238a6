"""Lists codebooks, compares two, publishes one or takes the published one back (docs/publishing.md).

spark-submit jobs/semantic_ids.py list --conf-file conf/demo.yaml
"""

from akt_spark.jobs import semantic_ids

if __name__ == "__main__":
    semantic_ids()
