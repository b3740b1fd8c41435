from __future__ import annotations

from odd.inputs import FILES, HEAVY, INPUTS, STRETCHED
from odd.page import PAGE, page


def test_the_page_is_written_from_the_rows():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/odd/page.py"


def test_no_two_inputs_share_a_name():
    names = [name for rows in INPUTS.values() for name in rows if name in {**FILES, **STRETCHED, **HEAVY}]
    files = [row for title, rows in INPUTS.items() for row in rows if title.split()[0] not in ("Hostile", "Tars")]
    assert len(files) == len(set(files))
    assert len(names) >= 100
