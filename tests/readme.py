"""What the README tells people to type, for the tests that type it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

TEXT = (Path(__file__).resolve().parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every line of the shell blocks."""
    return [line for block in blocks("sh") for line in block.splitlines()]


def command(start: str, options: dict[str, str]) -> list[str]:
    """The words of the command that starts so, with other values for some of its options."""
    words = shlex.split(next(line for line in commands() if line.startswith(start)))
    for option, value in options.items():
        words[words.index(option) + 1] = value
    return words
