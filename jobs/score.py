"""Scores the test period with every trained model.

spark-submit jobs/score.py --conf-file conf/demo.yaml --ds 2018-09-24
"""

from akt_spark.jobs import main

if __name__ == "__main__":
    main("score")
