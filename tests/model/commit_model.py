"""The commit contract as a state machine: two writers of one shard, their source, the store and the collectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from model.shard_state import Key, Manifest, NoteKey, Object, Part, Rules, State, Step, Writer

MOST_REVISIONS = 9
STOPS = "stops; it starts again"
PARTS = 2
"""Parts that a whole build makes; a retry of rejects lists them again and adds one."""


def steps(state: State, rules: Rules) -> Iterator[Step]:
    """Yield all that may happen next, each with its name."""
    litter = _litter_of(state.manifests, rules.collects, rules.keeps)
    there = objects(state)
    decided = frozenset(name for name in there if litter.holds(name)) | state.doomed
    for name, after in _writers_and_source(state, rules):
        if after.manifests == state.manifests:
            yield name, after
        else:
            new = _litter_of(after.manifests, rules.collects, rules.keeps)
            yield name, after._replace(doomed=frozenset(found for found in decided if not new.holds(found)))
    for kind, key in decided & there:
        if kind == "part":
            after = state._replace(parts=frozenset(part for part in state.parts if part[0] != key))
        else:
            after = state._replace(notes=frozenset(note for note in state.notes if note[0] != key))
        yield ("a collector deletes", kind, key), after


def without_forgotten_parts(state: State) -> State:
    """Drop the parts that no manifest, receipt or writer names.

    Under content addresses nobody sees whether such a part is there: who puts it again has it either way.
    """
    named = {part for manifest in state.manifests for part in manifest.parts}
    named.update(part for _, part in state.notes)
    for writer in state.writers:
        named.update(writer.chain, writer.carried, [_own_part(writer, addressed=True)])
    return state if state.parts <= named else state._replace(parts=state.parts & named)


def objects(state: State) -> frozenset[Object]:
    """Name the objects that a listing of the shard's folders shows."""
    return frozenset([("part", key) for key, _ in state.parts] + [("receipt", key) for key, _ in state.notes])


@dataclass(frozen=True)
class _Litter:
    """What a collector that has read these manifests may delete."""

    folders: int
    kept: frozenset[Key]

    def holds(self, name: Object) -> bool:
        kind, key = name
        return key[0] < self.folders and (kind == "receipt" or key not in self.kept)


@cache
def _litter_of(manifests: tuple[Manifest, ...], collects: str, keeps: str) -> _Litter:
    every = MOST_REVISIONS if collects == "any" or (collects == "above" and manifests) else len(manifests)
    trusted = manifests if keeps == "all" else manifests[-1:]
    return _Litter(every, frozenset(key for manifest in trusted for key, _ in manifest.parts))


def _writers_and_source(state: State, rules: Rules) -> Iterator[Step]:
    if state.source == "A" and rules.source_changes:
        yield ("the source changes to B",), state._replace(source="B")
    for number, writer in enumerate(state.writers):
        if writer.at != "plan":
            yield ("writer", number, STOPS), _moved(state, number, Writer())
        for name, after in _WRITER_STEPS[writer.at](state, number, rules):
            yield ("writer", number, *name), after
    for revision, manifest in state.late:
        yield ("a late put of manifest", revision, "arrives"), _put_manifest(state, revision, manifest)


def _moved(state: State, number: int, writer: Writer) -> State:
    first, second = state.writers
    return state._replace(writers=(writer, second) if number == 0 else (first, writer))


def _plan(state: State, number: int, rules: Rules) -> Iterator[Step]:
    writer = state.writers[number]
    if not rules.source_after_revision and not writer.source:
        yield ("looks at source", state.source), _moved(state, number, Writer(source=state.source))
        return
    planned = writer._replace(at="source", revision=len(state.manifests))
    yield ("finds", len(state.manifests), "revisions"), _moved(state, number, planned)


def _source(state: State, number: int, rules: Rules) -> Iterator[Step]:
    revision = state.writers[number].revision
    source = state.source if rules.source_after_revision else state.writers[number].source
    highest = state.manifests[revision - 1] if revision else Manifest("", ())
    if highest.source != source:
        begun = Writer("receipt", revision, source)
    elif rules.retries[number] and len(highest.parts) == PARTS:
        begun = Writer("receipt", revision, source, highest.parts, highest.parts)
    else:
        begun = Writer("done", revision - 1, source, (), highest.parts)
    if begun.revision <= rules.last_revision:
        yield ("begins revision", begun.revision, "of source", source, ":", begun.at), _moved(state, number, begun)


def _note_key(writer: Writer, rules: Rules) -> NoteKey:
    return writer.revision, len(writer.chain), writer.source if rules.receipt_names_inputs else ""


def _note(state: State, key: NoteKey) -> Part | None:
    return next((part for name, part in state.notes if name == key), None)


def _behind(writer: Writer, part: Part) -> Writer:
    chain = (*writer.chain, part)
    wanted = len(writer.carried) + 1 if writer.carried else PARTS
    return writer._replace(chain=chain, content="", at="receipt" if len(chain) < wanted else "commit")


def _receipt(state: State, number: int, rules: Rules) -> Iterator[Step]:
    writer = state.writers[number]
    noted = _note(state, _note_key(writer, rules))
    if noted is not None:
        yield ("adopts part", noted), _moved(state, number, _behind(writer, noted))
        return
    before = writer.chain[-1][1][-1] if writer.chain else "-"
    for outcome in rules.outcomes[number]:
        built = writer._replace(at="part", content=writer.source + before + outcome)
        yield ("builds", built.content), _moved(state, number, built)


def _own_part(writer: Writer, *, addressed: bool) -> Part:
    address = writer.content if addressed else ""
    return (writer.revision, len(writer.chain), address), writer.content


def _part(state: State, number: int, rules: Rules) -> Iterator[Step]:
    part = _own_part(state.writers[number], addressed=rules.content_addresses)
    there = {old for old in state.parts if old[0] == part[0]}
    put = state
    if not (there and rules.part_create_only):
        put = state._replace(parts=(state.parts - there) | {part})
    yield ("puts part", part), _moved(put, number, state.writers[number]._replace(at="note"))
    # A lost answer: the same put is sent again. Without effect nothing has changed.
    yield ("puts, without an answer, part", part), put


def _write_note(state: State, number: int, rules: Rules) -> Iterator[Step]:
    writer = state.writers[number]
    key, part = _note_key(writer, rules), _own_part(writer, addressed=rules.content_addresses)
    asking = writer._replace(at="note?")
    if _note(state, key) is not None:
        after = asking if rules.reads_receipt_back else _behind(writer, part)
        yield ("is refused receipt", key), _moved(state, number, after)
        return
    put = state._replace(notes=state.notes | {(key, part)})
    yield ("puts receipt", key), _moved(put, number, _behind(writer, part))
    yield ("puts, without an answer, receipt", key), _moved(put, number, asking)


def _ask_note(state: State, number: int, rules: Rules) -> Iterator[Step]:
    writer = state.writers[number]
    noted = _note(state, _note_key(writer, rules))
    if noted == _own_part(writer, addressed=rules.content_addresses):
        yield ("reads its receipt back",), _moved(state, number, _behind(writer, noted))
    elif noted is None:
        yield ("finds no receipt",), _moved(state, number, writer._replace(at="note"))
    else:
        again = writer._replace(at="receipt", chain=writer.carried, content="")
        yield ("finds another's receipt and starts the shard again",), _moved(state, number, again)


def _put_manifest(state: State, revision: int, manifest: Manifest) -> State:
    if revision == len(state.manifests):
        # Of this revision no later put can take effect.
        return state._replace(manifests=(*state.manifests, manifest), late=frozenset())
    return state


def _commit(state: State, number: int, rules: Rules) -> Iterator[Step]:
    writer = state.writers[number]
    done, asking = writer._replace(at="done"), writer._replace(at="commit?")
    if writer.revision < len(state.manifests):
        if not rules.manifest_create_only:
            written = (*state.manifests[: writer.revision], writer.manifest, *state.manifests[writer.revision + 1 :])
            yield ("overwrites manifest", writer.revision), _moved(state._replace(manifests=written), number, done)
        else:
            after = asking if rules.reads_manifest_back else done
            yield ("is refused manifest", writer.revision), _moved(state, number, after)
        return
    put = _put_manifest(state, writer.revision, writer.manifest)
    yield ("commits manifest", writer.revision), _moved(put, number, done)
    yield ("commits, without an answer, manifest", writer.revision), _moved(put, number, asking)
    if rules.late_requests:
        late = state._replace(late=state.late | {(writer.revision, writer.manifest)})
        yield ("puts, still on its way, manifest", writer.revision), _moved(late, number, asking)


def _ask_commit(state: State, number: int, rules: Rules) -> Iterator[Step]:
    writer = state.writers[number]
    if writer.revision >= len(state.manifests):
        yield ("finds no manifest",), _moved(state, number, writer._replace(at="commit"))
    elif state.manifests[writer.revision] == writer.manifest:
        yield ("reads its manifest back",), _moved(state, number, writer._replace(at="done"))
    else:
        own = writer.chain[len(writer.carried) :]
        lost = Writer("drop", chain=own) if rules.loser_deletes else Writer()
        yield ("has lost and plans again",), _moved(state, number, lost)


def _drop(state: State, number: int, rules: Rules) -> Iterator[Step]:
    *left, part = state.writers[number].chain
    after = Writer("drop", chain=tuple(left)) if left else Writer()
    yield ("deletes its part", part), _moved(state._replace(parts=state.parts - {part}), number, after)


def _done(state: State, number: int, rules: Rules) -> Iterator[Step]:
    """End here; that it starts again is the next run."""
    yield from ()


_WRITER_STEPS = {
    "plan": _plan,
    "source": _source,
    "receipt": _receipt,
    "part": _part,
    "note": _write_note,
    "note?": _ask_note,
    "commit": _commit,
    "commit?": _ask_commit,
    "drop": _drop,
    "done": _done,
}
