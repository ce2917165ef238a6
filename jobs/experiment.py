"""Compares rankers on the samples that a night has left; goes on where it stopped (docs/experiments.md).

spark-submit jobs/experiment.py conf/experiments/parts.yaml --conf-file conf/demo.yaml --ds 2018-09-24
"""

from akt_spark.jobs import experiment

if __name__ == "__main__":
    experiment()
