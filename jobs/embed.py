"""Embeds items and users that are new or changed.

spark-submit jobs/embed.py --conf-file conf/demo.yaml --ds 2018-09-24
"""

from akt_spark.jobs import main

if __name__ == "__main__":
    main("embed")
