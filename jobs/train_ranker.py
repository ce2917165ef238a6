"""Trains every configured ranker variant: Horovod ranks on Spark, Petastorm readers.

spark-submit jobs/train_ranker.py --conf-file conf/demo.yaml --ds 2018-09-24
"""

from akt_spark.jobs import main

if __name__ == "__main__":
    main("train_ranker")
