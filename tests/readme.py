"""What the README and the pages of docs/ tell people to type, for the tests that type it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def blocks(language: str, page: str = "README.md") -> list[str]:
    """The code blocks of one language."""
    text = (REPOSITORY / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(page: str = "README.md") -> list[str]:
    """Every line of the shell blocks."""
    return [line for block in blocks("sh", page) for line in block.splitlines()]


def command(start: str, options: dict[str, str], page: str = "README.md") -> list[str]:
    """The words of the command that starts so, with other values for some of its options."""
    words = shlex.split(next(line for line in commands(page) if line.startswith(start)))
    for option, value in options.items():
        words[words.index(option) + 1] = value
    return words
