"""Write docs/odd-inputs.md from the rows: ``python tests/odd/page.py``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from odd.inputs import INPUTS
from odd.rows import Odd, OddMember, OddTar

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "odd-inputs.md"
_BEGINNING = """# Odd inputs

Shards come from strangers. Each row below is an input that `tests/odd` makes, lays into a shard between two good
videos, and splits as the pipeline does; a test holds what happens against this table, which is written from the same
rows (`python tests/odd/page.py`). The good videos are always published, except where the shard fails: a shard whose
tar is not whole commits nothing, for nobody knows what else it held.

No input is opened under its own name; none is read as anything but mp4/mov, Matroska/WebM or AVI; and nothing that an
input names (files, hosts, data references, fonts, playlists) is opened: a canary file, a canary video and two ports on
127.0.0.1 are named by the hostile rows and watched, also by `strace`.
"""


def page() -> str:
    """Give the page's text."""
    return "\n".join([_BEGINNING, *(_section(title, rows) for title, rows in INPUTS.items())])


def _section(title: str, rows: dict[str, Odd] | dict[str, OddMember] | dict[str, OddTar]) -> str:
    lines = [f"## {title}\n", "| Input | What happens | Why |", "|---|---|---|"]
    lines += [f"| {_cell(row.what)} | {_cell(_fate(row))} | {_cell(_why(row))} |" for row in rows.values()]
    return "\n".join(lines) + "\n"


def _fate(row: Odd | OddMember | OddTar) -> str:
    if isinstance(row, OddMember):
        return ", then ".join(str(fate) for fates in row.fates.values() for fate in fates)
    return str(row.fate)


def _why(row: Odd | OddMember | OddTar) -> str:
    return f"{row.why} (not yet: {row.fault})" if row.fault else row.why


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
