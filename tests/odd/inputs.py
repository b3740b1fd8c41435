"""All odd inputs, by name."""

from __future__ import annotations

from odd.damaged import DAMAGED_FILES
from odd.endless import HEAVY, STRETCHED
from odd.good import GOOD
from odd.hostile import HOSTILE
from odd.rows import Odd, OddMember, OddTar
from odd.tars import KINDS, NAMES, TARS

__all__ = ["FILES", "HEAVY", "INPUTS", "MEMBERS", "STRETCHED", "TARS"]

FILES: dict[str, Odd] = {**GOOD, **DAMAGED_FILES, **HOSTILE}
MEMBERS: dict[str, OddMember] = {**NAMES, **KINDS}
INPUTS: dict[str, dict[str, Odd] | dict[str, OddMember] | dict[str, OddTar]] = {
    "Odd, but good": GOOD,
    "Damaged, or no video": DAMAGED_FILES,
    "Hostile files": HOSTILE,
    "Times that go far": STRETCHED,
    "Work without end": HEAVY,
    "Hostile names and members": MEMBERS,
    "Tars that are not whole": TARS,
}
