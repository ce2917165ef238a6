"""Packages that are installed only where they are wanted: the optional dependencies of ``pyproject.toml``."""

from __future__ import annotations

from importlib.util import find_spec

from akt_spark.errors import ConfigError


def require_extra(extra: str, key: str) -> None:
    """Checks that the package of an extra is there; both have one name.

    Args:
        extra: as in ``pyproject.toml``.
        key: of the configuration, that asks for it.

    Raises:
        ConfigError: when it is not; it says how to install it.
    """
    if find_spec(extra) is None:
        raise ConfigError(
            f"{key} is set, but {extra} is not installed: `uv sync --extra {extra}` (or pip install "
            f"'akt-spark[{extra}]'), or set {key}: null"
        )
