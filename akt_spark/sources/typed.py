"""Raw columns to the types of the bronze tables. What cannot be read becomes null, and a number that is none NaN."""

from __future__ import annotations

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from akt_spark.config_sources import EventsSource, ItemsSource, TableSource, UsersSource
from akt_spark.errors import SourceError
from akt_spark.sources.raw import RAW, ROW_JSON, VERDICT
from akt_spark.sources.tables import Part

SPARK_SECONDS = 9_000_000_000_000  # beyond, seconds do not fit Spark's microseconds
EPOCHS = {"epoch_seconds": 1, "epoch_millis": 1_000}
OFFSET = r":\d.*(?:[zZ]|UTC|GMT|[+-]\d{1,2}(?::?\d{2})?|[A-Za-z]+/\w+)\s*$"


def typed(part: Part, table: TableSource) -> DataFrame:
    """Every column of ours in its type, from whatever name and type it has in the files.

    Raises:
        SourceError: a column is of a type that cannot be made into ours.
    """
    columns = [_read(part, table, name, kind).alias(name) for name, kind in table.TYPES.items()]
    try:
        return part.rows.select(*columns, ROW_JSON, VERDICT)
    except AnalysisException as error:
        wanted = ", ".join(f"{name} {kind}" for name, kind in table.TYPES.items())
        reason = str(error).splitlines()[0]
        raise SourceError(f"{part.path}: columns are not of the types needed ({wanted}): {reason}") from None


def number(column: Column, decimal: str = ".") -> Column:
    """A DOUBLE from a text; null stays null, and what is no number becomes NaN so that ingest can tell the two apart.

    Currency signs and codes, spaces and thousands separators are no hindrance.
    """
    thousands, text = ("," if decimal == "." else r"\."), column.cast("string")
    plain = F.regexp_replace(text, r"[\p{Sc}\p{Z}']|^\s*[A-Z]{3}\b|\b[A-Z]{3}\s*$", "")
    plain = F.regexp_replace(plain, rf"(?<=\d){thousands}(?=\d{{3}}(\D|$))", "")
    read = (plain if decimal == "." else F.replace(plain, F.lit(","), F.lit("."))).try_cast("double")
    given = column.isNotNull() & (F.trim(text) != "")
    return F.when(given & read.isNull(), F.lit(float("nan"))).otherwise(read)


def epoch(column: Column, per_second: int = 1) -> Column:
    """A TIMESTAMP from seconds (or their parts) since 1970; null beyond what Spark can hold."""
    seconds = column.try_cast("decimal(38,6)") / per_second
    return F.when(F.abs(seconds) < SPARK_SECONDS, F.timestamp_micros((seconds * 1_000_000).cast("bigint")))


def _read(part: Part, table: TableSource, name: str, kind: str) -> Column:
    theirs = [column for column in table.theirs(name) if part.has(column)]
    listed = _into_map(table, name)
    if listed:
        return _map(part, listed)
    if not theirs:
        return F.lit(None).cast(kind)
    column = part.field(theirs[0])
    given = part.rows.select(column.alias(RAW)).dtypes[0][1]
    if kind == "timestamp":
        return _time(column, given, table)
    if kind == "double":
        return number(column, table.decimal) if given == "string" else column.try_cast(kind)
    if kind == "array<string>":
        return _path([part.field(column) for column in theirs], given, table)
    if kind.startswith("map") and given == "string":
        return F.from_json(column, kind)
    if kind == "binary" and given == "string":
        return F.try_to_binary(column, F.lit("base64"))
    read = column.try_cast(kind)
    if name in table.zero_pad:
        length = table.zero_pad[name]
        return F.when(F.length(read) < length, F.lpad(read, length, "0")).otherwise(read)
    return read


def _into_map(table: TableSource, name: str) -> list[str]:
    """Their columns that make up our map of this name."""
    if isinstance(table, ItemsSource) and name == "attributes":
        return table.attributes
    return table.profile if isinstance(table, UsersSource) and name == "profile" else []


def _map(part: Part, columns: list[str]) -> Column:
    pairs = [half for name in columns for half in (F.lit(name), _text(part.field(name)))]
    return F.map_filter(F.create_map(*pairs), lambda _, value: value.isNotNull())


def _text(column: Column) -> Column:
    text = column.cast("string")
    return F.when(F.trim(text) != "", text)


def _path(columns: list[Column], given: str, table: TableSource) -> Column:
    """A category: several columns, a list, the JSON of a list, or a text with separators."""
    separator = table.category_separator if isinstance(table, ItemsSource) else None
    if len(columns) > 1:
        return F.array_compact(F.array(*map(_text, columns)))
    (column,) = columns
    if given != "string":
        return column.try_cast("array<string>") if given.startswith("array") else F.array(column.cast("string"))
    if separator:
        steps = F.transform(F.split(column, rf"\Q{separator}\E"), lambda step: F.trim(step))
        return F.filter(steps, lambda step: step != "")
    is_list = F.trim(column).startswith("[")
    return F.when(is_list, F.from_json(column, "array<string>")).otherwise(F.array_compact(F.array(_text(column))))


def _time(column: Column, given: str, table: TableSource) -> Column:
    """A moment: times without an offset are in the time zone of the table."""
    if not isinstance(table, EventsSource) or given == "timestamp":
        return column.try_cast("timestamp")
    pattern = table.time_format
    if pattern in EPOCHS:
        return epoch(column, EPOCHS[pattern])
    if given in ("date", "timestamp_ntz"):
        return F.to_utc_timestamp(column.cast("timestamp"), table.time_zone)
    if given != "string":
        return column.try_cast("timestamp")
    if pattern:
        moment = F.try_to_timestamp(column, F.lit(pattern))
        knows_offset = F.lit(any(letter in "XxZzVO" for letter in _outside_quotes(pattern)))
    else:
        moment, knows_offset = column.try_cast("timestamp"), column.rlike(OFFSET)
    return F.when(knows_offset, moment).otherwise(F.to_utc_timestamp(moment, table.time_zone))


def _outside_quotes(pattern: str) -> str:
    return "".join(pattern.split("'")[::2])
