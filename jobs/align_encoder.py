"""Trains the item projection and the user model on the training period; registers both.

spark-submit jobs/align_encoder.py --conf-file conf/demo.yaml --ds 2018-09-24
"""

from akt_spark.jobs import main

if __name__ == "__main__":
    main("align_encoder")
