"""Removes what the policy does not keep, and compacts small files; run it weekly (docs/maintenance.md).

spark-submit jobs/maintain.py --conf-file conf/demo.yaml --dry-run
"""

from akt_spark.jobs import maintain

if __name__ == "__main__":
    maintain()
