"""All stages for one closed day; each is skipped when its inputs, configuration and code have not changed.

spark-submit jobs/nightly.py --conf-file conf/demo.yaml --ds 2018-09-24
"""

from akt_spark.jobs import nightly

if __name__ == "__main__":
    nightly()
