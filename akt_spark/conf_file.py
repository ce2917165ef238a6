"""Reading a configuration file with overrides over the defaults, and writing the file of all defaults.

``python -m akt_spark.conf_file`` prints the commented default configuration (``conf/default.yaml`` is that output).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from akt_spark.config import Config, Section
from akt_spark.errors import ConfigError

EXPERIMENT_SECTIONS = ("samples", "ranker", "training", "tuning", "evaluation")


class _Yaml(yaml.SafeLoader):
    """YAML 1.2 floats: plain PyYAML reads 1e-3 as a text."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file and applies ``a.b=c`` overrides (values are YAML) on top of the defaults.

    Raises:
        ConfigError: with the key, the value and what is allowed.
    """
    values = _read_yaml(Path(path)) if path else {}
    for override in overrides:
        values = _set(values, override)
    return _validated(Config(), values, path or "defaults")


def load_experiment(path: str | Path, config: Config) -> Config:
    """Reads what an experiment changes of a night's configuration: `EXPERIMENT_SECTIONS`.

    Raises:
        ConfigError: with the key, the value and what is allowed; also for any other section, since an experiment
            compares rankers on what a night has prepared.
    """
    values = _read_yaml(Path(path))
    others = ", ".join(sorted(set(values) - set(EXPERIMENT_SECTIONS)))
    if others:
        allowed = ", ".join(EXPERIMENT_SECTIONS)
        raise ConfigError(
            f"experiment {path}: sections {others} belong to the night it works on; allowed here: {allowed}"
        )
    return _validated(config, values, path)


def _validated(under: Config, values: dict[str, Any], origin: str | Path) -> Config:
    """The values laid over a configuration."""
    try:
        return Config.model_validate(_merge(under, values))
    except ValidationError as error:
        raise ConfigError(f"configuration {origin}:\n" + "\n".join(_explain(error, values))) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(
            f"configuration file {path} does not exist: give --conf-file a YAML file such as conf/demo.yaml"
        )
    try:
        values = yaml.load(path.read_text(), Loader=_Yaml) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration file {path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"configuration file {path} must hold sections such as 'lake:', not {type(values).__name__}")
    return values


def _set(values: dict[str, Any], override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {override}: write it as section.key=value, for example --set lake.root=my_lake")
    try:
        value = yaml.load(text, Loader=_Yaml)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML: {error}") from None
    first, *rest = key.split(".")
    if not rest:
        return values | {first: value}
    child = values.get(first) or {}
    if not isinstance(child, dict):
        raise ConfigError(f"--set {override}: '{first}' holds {child!r}, not a section")
    return values | {first: _set(child, f"{'.'.join(rest)}={text}")}


def _merge(defaults: Section, values: dict[str, Any]) -> dict[str, Any]:
    """Lays values over defaults, section by section; a source of another kind replaces the default source whole."""
    merged = {name: getattr(defaults, name) for name in type(defaults).model_fields}
    for key, value in values.items():
        default = merged.get(key)
        fits = isinstance(default, Section) and isinstance(value, dict) and _has_kind(default, value.get("kind"))
        merged[key] = _merge(default, value) if fits else value
    return merged


def _has_kind(section: Section, kind: Any) -> bool:
    """Whether a value with this kind (None: not said) can be of the section's class."""
    field = type(section).model_fields.get("kind")
    return kind is None or field is None or kind in get_args(field.annotation)


def _explain(error: ValidationError, values: dict[str, Any]) -> Iterator[str]:
    for problem in error.errors():
        # pydantic adds the tag of a chosen union member to the location; a reader knows only YAML keys
        tag = 1 if problem["loc"][:1] == ("source",) else None
        place = [str(p) for level, p in enumerate(problem["loc"]) if level != tag]
        key = ".".join(place)
        if problem["type"] == "extra_forbidden":
            allowed = ", ".join(_siblings(problem["loc"]))
            yield f"  {key}: unknown key (value {problem['input']!r}); allowed here: {allowed}"
        elif problem["type"] == "missing":
            yield f"  {key}: required, but not given"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            shown = f" (value {problem['input']!r})" if problem["type"] != "value_error" else ""
            yield f"  {key}: {message}{shown}" if key else f"  {message}"


def _siblings(place: tuple[int | str, ...]) -> list[str]:
    """Keys allowed beside an unknown key, found by walking the models along pydantic's location."""
    sections: list[type[Section]] = [Config]
    for key in place[:-1]:
        tagged = [section for section in sections if _kind(section) == key]
        inside = [section.model_fields[key].annotation for section in sections if key in section.model_fields]
        sections = tagged or [part for annotation in inside for part in _sections(annotation)]
    return sorted({name for section in sections for name in section.model_fields})


def _sections(annotation: Any) -> list[type[Section]]:
    """The models of a field: its type, or the members of its union."""
    parts = (annotation, *get_args(annotation))
    return [part for part in parts if isinstance(part, type) and issubclass(part, Section)]


def _kind(section: type[Section]) -> str | None:
    """The tag by which a union tells its members apart."""
    field = section.model_fields.get("kind")
    return get_args(field.annotation)[0] if field else None


def default_yaml() -> str:
    """The commented default configuration."""
    header = "# Every key with its default. Generated: python -m akt_spark.conf_file > conf/default.yaml\n"
    return header + "\n".join(_yaml_lines(Config(), 0)) + "\n"


def _yaml_lines(section: Section, depth: int) -> Iterator[str]:
    pad = "  " * depth
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            summary = (type(value).__doc__ or "").splitlines()[0]
            yield f"{pad}{name}:  # {summary}" if depth else f"\n{name}:  # {summary}"
            yield from _yaml_lines(value, depth + 1)
        else:
            yield f"{pad}{name}: {_yaml_value(value)}  # {field.description}"


def _yaml_value(value: Any) -> str:
    """A value on one line."""
    style = '"' if isinstance(value, str) and "\n" in value else None  # only quotes like these know \n
    text = yaml.safe_dump(value, default_flow_style=True, default_style=style, width=10_000, sort_keys=False)
    return text.strip().removesuffix("\n...")


if __name__ == "__main__":
    print(default_yaml(), end="")
