"""Scores the test period with every trained model; or pairs, or the best candidates of users (docs/serving.md).

spark-submit jobs/score.py --conf-file conf/demo.yaml --ds 2018-09-24
spark-submit jobs/score.py --conf-file conf/demo.yaml --requests pairs.csv
spark-submit jobs/score.py --conf-file conf/demo.yaml --candidates items.csv --top 10
"""

from akt_spark.jobs import score

if __name__ == "__main__":
    score()
