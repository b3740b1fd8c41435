"""Records that training, evaluation or prediction could not use."""

from __future__ import annotations

from pydantic import Field

from shardmill.specs.value import Spec


class RecordReject(Spec):
    """A place in a TFRecord file that could not be used."""

    file: str
    """URI of the file."""
    offset: int = Field(ge=0)
    """Of the record in the file, in bytes."""
    reason: str
    records: int = Field(1, ge=1)
    """How many records are lost by it: behind a damaged header, and where a file is cut, it is all the rest."""


class RejectTally(Spec):
    """The rejects of some records, each place once."""

    rejects: tuple[RecordReject, ...] = ()

    @property
    def count(self) -> int:
        """Records that were lost."""
        return sum(reject.records for reject in self.rejects)

    def __add__(self, other: RejectTally) -> RejectTally:
        """Give the rejects of the same records read twice, or of records of other files: a place counts once."""
        known = {(reject.file, reject.offset): reject for reject in (*other.rejects, *self.rejects)}
        return RejectTally(rejects=tuple(known[place] for place in sorted(known)))

    def beside(self, other: RejectTally) -> RejectTally:
        """Give the rejects of this worker and another, who share no record: what they lost at one place adds up."""
        found = {(reject.file, reject.offset): reject for reject in self.rejects}
        for reject in other.rejects:
            place = (reject.file, reject.offset)
            lost = reject.records + (found[place].records if place in found else 0)
            found[place] = found.get(place, reject).model_copy(update={"records": lost})
        return RejectTally(rejects=tuple(found[place] for place in sorted(found)))
