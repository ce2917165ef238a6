"""Writes a folder with a ranker and its look-up tables that scores without Spark (docs/serving.md).

spark-submit jobs/export.py --conf-file conf/demo.yaml --out exported
"""

from akt_spark.jobs import export

if __name__ == "__main__":
    export()
