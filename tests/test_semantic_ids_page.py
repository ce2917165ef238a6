"""docs/semantic_ids.md holds what the results of its benchmark hold."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def test_the_page_is_made_from_the_results():
    made = subprocess.run(
        [sys.executable, "benchmarks/semantic_ids_page.py"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert made.stdout == (REPOSITORY / "docs/semantic_ids.md").read_text()
