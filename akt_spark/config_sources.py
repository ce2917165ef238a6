"""The configuration's section ``source``: where raw events, items and users come from."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import available_timezones

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from akt_spark.config_types import EventType, Section, Settings


class MovieLensSource(Section):
    """MovieLens ratings: a rating is an impression, one of at least `positive_rating` also a click."""

    kind: Literal["movielens"] = Field("movielens", description="movielens, logs (docs/your_own_logs.md) or folder")
    path: str = Field("data/movielens-small", description="folder with ratings, movies and tags, or a GroupLens zip")
    posters: str | None = Field(None, description="folder of <movieId>.jpg (or .png), or Parquet of item_id, image")
    positive_rating: float = Field(4.0, description="a rating from here on is a click")


class FolderSource(Section):
    """A folder of events.parquet, items.parquet and perhaps users.parquet in our own names, such as the shop's."""

    kind: Literal["folder"] = "folder"
    path: str = Field(description="folder of events.parquet, items.parquet and users.parquet")


def _names_ours(table: dict[str, Any]) -> dict[str, Any]:
    return {str(key).lower() if isinstance(key, bool) else str(key): value for key, value in table.items()}


def _listed(value: Any) -> Any:
    """What YAML gives for nothing, one or several, as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


Several = BeforeValidator(_listed)
OneOrMoreTypes = Annotated[list[EventType], Several]
Columns = Annotated[list[str], Several]


class TableSource(Section):
    """Files of one table in other people's names and formats.

    Every subclass says which columns it can give (``TYPES``, with their Spark types) and which it must
    (``REQUIRED``).
    """

    TYPES: ClassVar[dict[str, str]] = {}
    REQUIRED: ClassVar[tuple[str, ...]] = ()

    path: str = Field(description="file, folder, glob or Delta table; {ds} stands for the day, {ds:%Y%m%d} formats it")
    format: Literal["csv", "json", "parquet", "delta"] | None = Field(
        None, description="json: one object a line; without it, what the file names end in"
    )
    columns: dict[str, Columns] = Field({}, description="our column: theirs, where the names differ")
    names: list[str] | None = Field(None, description="column names of CSV files that have no header line")
    options: Settings = Field({}, description="options of Spark's CSV reader, such as sep, quote, multiLine")
    encoding: str = Field("UTF-8", description="of CSV and JSON files")
    decimal: Literal[".", ","] = Field(".", description="decimal mark of numbers in text")
    zero_pad: dict[str, PositiveInt] = Field({}, description="id column: its length with leading zeros")

    @model_validator(mode="after")
    def _columns_are_ours(self) -> Self:
        for section in ("columns", "zero_pad"):
            for ours in getattr(self, section):
                if ours not in self.TYPES:
                    raise ValueError(f"{section}.{ours}: no column of ours; there are {', '.join(self.TYPES)}")
        for ours, theirs in self.columns.items():
            if len(theirs) != 1 and self.TYPES[ours] != "array<string>":
                raise ValueError(f"columns.{ours}: {theirs} must be one column; only a category is made of several")
        try:
            self.path.format(ds=date.min)
        except (LookupError, ValueError) as error:
            raise ValueError(f"path {self.path}: only {{ds}} or {{ds:%Y%m%d}} may stand in braces ({error})") from None
        return self

    @property
    def daily(self) -> bool:
        """Whether every day has files of its own."""
        return "{ds" in self.path

    def theirs(self, ours: str) -> list[str]:
        """The names that they have for our column."""
        return self.columns.get(ours, [ours])


class EventsSource(TableSource):
    """The log."""

    TYPES: ClassVar[dict[str, str]] = {
        "event_id": "string",
        "user_id": "string",
        "item_id": "string",
        "event_type": "string",
        "event_time": "timestamp",
        "event_order": "bigint",
        "value": "double",
    }
    REQUIRED: ClassVar[tuple[str, ...]] = ("user_id", "item_id", "event_type", "event_time")

    event_type: OneOrMoreTypes = Field([], description="what every row is, in a log without types")
    event_types: Annotated[dict[str, OneOrMoreTypes], BeforeValidator(_names_ours)] = Field(
        {}, description="their type: ours, a list of ours (one row, several events), or [] (left out)"
    )
    time_zone: str = Field("UTC", description="of times without an offset, such as Europe/Berlin")
    time_format: str | None = Field(
        None, description="epoch_seconds, epoch_millis, or a pattern such as dd.MM.yyyy HH:mm; without it, ISO 8601"
    )

    @model_validator(mode="after")
    def _types_come_from_one_place(self) -> Self:
        if self.event_type and (self.event_types or "event_type" in self.columns):
            raise ValueError("event_type says what every row is: leave out event_types and columns.event_type")
        if self.time_zone not in available_timezones():
            raise ValueError(f"time_zone '{self.time_zone}' is unknown: write UTC or a name such as Europe/Berlin")
        return self


class ItemsSource(TableSource):
    """The catalogue."""

    TYPES: ClassVar[dict[str, str]] = {
        "item_id": "string",
        "title": "string",
        "description": "string",
        "category": "array<string>",
        "brand": "string",
        "price": "double",
        "attributes": "map<string,string>",
        "image": "binary",
        "image_uri": "string",
        "first_seen": "date",
    }
    REQUIRED: ClassVar[tuple[str, ...]] = ("item_id", "title")

    category_separator: str | None = Field(None, description="what separates the steps of a category path in one text")
    attributes: list[str] = Field([], description="their columns that go into the map of attributes")
    images: str | None = Field(None, description="folder of <item_id>.jpg (or .png), or Parquet of item_id, image")
    image_resolver: str = Field(
        "akt_spark.sources.images:read_file", description="module:function, from columns.image_uri to bytes or None"
    )


class UsersSource(TableSource):
    """What is known of the users beside their events."""

    TYPES: ClassVar[dict[str, str]] = {"user_id": "string", "profile": "map<string,string>"}
    REQUIRED: ClassVar[tuple[str, ...]] = ("user_id",)

    profile: list[str] = Field([], description="their columns that go into the profile")


class LogsSource(Section):
    """Any log and catalogue: tables in their own formats, with a mapping of names, types and times."""

    kind: Literal["logs"] = "logs"
    events: EventsSource
    items: ItemsSource
    users: UsersSource | None = None

    @property
    def path(self) -> str:
        """Where the log is, for messages."""
        return self.events.path
