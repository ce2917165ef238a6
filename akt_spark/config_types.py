"""What the models of the configuration are made of."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
EventType = Literal["impression", "click", "cart", "purchase"]
PositiveEvent = Literal["click", "cart", "purchase"]


def _as_text(value: Any) -> Any:
    """Spark's settings and options are text; YAML makes truths and numbers of some."""
    if not isinstance(value, dict):
        return value
    scalars = {key: str(one).lower() for key, one in value.items() if isinstance(one, bool | int | float)}
    return value | scalars


Settings = Annotated[dict[str, str], BeforeValidator(_as_text)]


def _as_run(value: Any) -> Any:
    """The run of a night is named by its day, which YAML takes for a date."""
    return value.isoformat() if isinstance(value, date) else value


RunId = Annotated[str | None, BeforeValidator(_as_run)]


class Section(BaseModel):
    """A part of the configuration: unknown keys and wrong types are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
