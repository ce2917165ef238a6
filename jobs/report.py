"""Writes report/index.html and report/summary.json.

spark-submit jobs/report.py --conf-file conf/demo.yaml --ds 2018-09-24
"""

from akt_spark.jobs import main

if __name__ == "__main__":
    main("report")
