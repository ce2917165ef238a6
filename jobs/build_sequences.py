"""The newest events of every user.

spark-submit jobs/build_sequences.py --conf-file conf/demo.yaml --ds 2018-09-24
"""

from akt_spark.jobs import main

if __name__ == "__main__":
    main("build_sequences")
