"""Cumulative activity of items and users, one row an active day.

spark-submit jobs/build_activity.py --conf-file conf/demo.yaml --ds 2018-09-24
"""

from akt_spark.jobs import main

if __name__ == "__main__":
    main("build_activity")
