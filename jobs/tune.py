"""Chooses hyper-parameters of an experiment's variants on validation, and writes them into a file.

spark-submit jobs/tune.py conf/experiments/main.yaml --out main_tuned.yaml --conf-file conf/demo.yaml --ds 2018-09-24
"""

from akt_spark.jobs import tune

if __name__ == "__main__":
    tune()
