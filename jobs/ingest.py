"""Raw logs and catalogue to bronze tables; every rejected row to quarantine.

spark-submit jobs/ingest.py --conf-file conf/demo.yaml --ds 2018-09-24

With --dry-run it writes nothing and shows what it makes of the files.
"""

from akt_spark.jobs import main

if __name__ == "__main__":
    main("ingest")
