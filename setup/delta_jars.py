"""Resolves Delta's jars by their Maven coordinates, once, and puts them into the installed Spark.

Afterwards every job starts offline and without asking Ivy. The installed Spark also gets this repository's ``conf/``
as its configuration folder, so that a bare ``spark-submit`` behaves like the jobs do.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pyspark

from akt_spark.session import DELTA_PACKAGE

REPOSITORY = Path(__file__).resolve().parent.parent
SPARK_HOME = Path(pyspark.__file__).parent


def resolve(ivy: Path) -> list[Path]:
    """Downloads the Delta package and what it needs beyond Spark; returns the jars."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.jars.packages", DELTA_PACKAGE).config("spark.jars.ivy", str(ivy))
    builder.getOrCreate().stop()
    return sorted((ivy / "jars").glob("io.delta_*.jar"))


def main() -> None:
    """Links the configuration folder and installs the jars that are not there yet."""
    conf = SPARK_HOME / "conf"
    if not conf.is_symlink() or conf.resolve() != REPOSITORY / "conf":
        conf.unlink(missing_ok=True)
        conf.symlink_to(REPOSITORY / "conf")
    version = DELTA_PACKAGE.rsplit(":", 1)[1]
    if not any((SPARK_HOME / "jars").glob(f"io.delta_delta-spark_*-{version}.jar")):
        for jar in resolve(REPOSITORY / ".ivy"):
            shutil.copy(jar, SPARK_HOME / "jars")


if __name__ == "__main__":
    main()
