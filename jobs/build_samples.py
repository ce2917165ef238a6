"""Point-in-time training samples and the look-ups of the ranker.

spark-submit jobs/build_samples.py --conf-file conf/demo.yaml --ds 2018-09-24
"""

from akt_spark.jobs import main

if __name__ == "__main__":
    main("build_samples")
