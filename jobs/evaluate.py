"""Sliced metrics of every variant, and paired differences to the reference.

spark-submit jobs/evaluate.py --conf-file conf/demo.yaml --ds 2018-09-24
"""

from akt_spark.jobs import main

if __name__ == "__main__":
    main("evaluate")
