"""Visit every state that can be reached, breadth first, and look at each with the contract's invariants."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from model.commit_model import STOPS, steps, without_forgotten_parts
from model.shard_state import START, Manifest, Name, Rules, State, Step


@dataclass(frozen=True)
class Explored:
    """What came of an exploration: all states visited, or the shortest way to a broken one."""

    visited: frozenset[State] = field(repr=False)
    seen: frozenset[object] = field(repr=False)
    """The kinds of all steps that were taken."""
    stuck: tuple[State, ...] = field(repr=False)
    """States in which a writer that is not done can do nothing but stop."""
    violation: str = ""
    trace: tuple[str, ...] = ()

    @property
    def states(self) -> int:
        return len(self.visited)

    def __str__(self) -> str:
        lines = [f"{self.states} states; {self.violation or 'every invariant holds'}"]
        return "\n".join(lines + [f"{number:3d}. {name}" for number, name in enumerate(self.trace, 1)])


@cache
def _badly_made(manifest: Manifest) -> str:
    before = "-"
    for number, ((_, position, _), content) in enumerate(manifest.parts):
        if position != number:
            return f"part {position} at the place of part {number}"
        if content[0] != manifest.source:
            return f"a mixture of sources: {content} in a manifest of source {manifest.source}"
        if content[1] != before:
            return f"part {content} does not begin where the part before it ends ({before})"
        before = content[2]
    return ""


def broken_state(state: State) -> str:
    """Name the invariant that a state breaks; empty where it breaks none."""
    for revision, manifest in enumerate(state.manifests):
        if message := _badly_made(manifest):
            return f"manifest {revision} lists {message}"
        if revision and manifest.source < state.manifests[revision - 1].source:
            return f"manifest {revision} goes back to source {manifest.source}"
        for part in manifest.parts:
            if part not in state.parts:
                found = [content for key, content in state.parts if key == part[0]]
                return f"manifest {revision} lists {part}, the store has {found or 'nothing'}"
    for number, writer in enumerate(state.writers):
        if writer.at == "done" and state.manifests[writer.revision] != writer.manifest:
            return (
                f"writer {number} reports success with {writer.manifest}: {state.manifests[writer.revision]} is there"
            )
    return ""


def broken_step(before: State, after: State) -> str:
    """Name the invariant that a step breaks; empty where it breaks none."""
    if after.manifests[: len(before.manifests)] != before.manifests:
        return "a manifest changed"
    return ""


class Exploration:
    """A search through the states of one set of rules."""

    def __init__(self, rules: Rules, most_states: int, *, reduced: bool) -> None:
        self._rules, self._most_states, self._forgetting = rules, most_states, reduced and rules.content_addresses
        self._alike = reduced and len(set(rules.retries)) == len(set(rules.outcomes)) == 1
        self._came_from: dict[State, tuple[State, Name] | None] = {START: None}

    def _normal(self, state: State) -> State:
        if self._forgetting:
            state = without_forgotten_parts(state)
        first, second = state.writers
        # Of two writers of the same kind it does not matter which is the first.
        return state._replace(writers=(second, first)) if self._alike and second < first else state

    def run(self) -> Explored:
        """Visit all states, or stop at the first broken one. Raises OverflowError above the limit of states."""
        queue, seen, stuck = deque([START]), set[object](), []
        while queue:
            state = queue.popleft()
            taken = list(steps(state, self._rules))
            if _is_stuck(state, taken):
                stuck.append(state)
            for name, after in taken:
                seen.add(name[2] if name[0] == "writer" else name[0])
                if violation := self._visit(state, (name, after), queue):
                    trace = (*self._trace(state), _words(name))
                    return Explored(frozenset(self._came_from), frozenset(seen), tuple(stuck), violation, trace)
        return Explored(frozenset(self._came_from), frozenset(seen), tuple(stuck))

    def _visit(self, state: State, step: Step, queue: deque[State]) -> str:
        name, after = step
        after = self._normal(after)
        if after in self._came_from:
            return ""
        self._came_from[after] = (state, name)
        if len(self._came_from) > self._most_states:
            raise OverflowError(f"more than {self._most_states} states: expected a smaller model")
        queue.append(after)
        return broken_step(state, after) or broken_state(after)

    def _trace(self, state: State) -> tuple[str, ...]:
        names: list[str] = []
        came = self._came_from[state]
        while came is not None:
            names.append(_words(came[1]))
            came = self._came_from[came[0]]
        return tuple(reversed(names))


def _words(name: Name) -> str:
    return " ".join(map(str, name))


def _is_stuck(state: State, taken: Sequence[Step]) -> bool:
    able = {name[1] for name, _ in taken if name[0] == "writer" and name[2] != STOPS}
    # A writer at "source" may be about to build a revision beyond the model's last.
    return any(number not in able and w.at not in ("done", "source") for number, w in enumerate(state.writers))


def explore(rules: Rules, most_states: int = 400_000, *, reduced: bool = True) -> Explored:
    """Visit every state that these rules can reach, or stop at the first broken one.

    Args:
        rules: the contract, or one of the ways to break it.
        most_states: the limit above which OverflowError is raised.
        reduced: whether states that differ only in which writer is which, or in parts that nobody names, are one.
    """
    return Exploration(rules, most_states, reduced=reduced).run()
