from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from shardmill.adapters import shared_value
from shardmill.adapters.store import Store, StoreError
from shardmill.specs.value import Sealed


class Names(Sealed):
    names: tuple[str, ...] = ()


def with_name(name: str):
    return lambda before: Names(names=(*(before.names if before else ()), name))


def test_of_writers_that_come_at_once_none_loses_what_another_wrote(lake):
    names = [f"n{number}" for number in range(24)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: shared_value.change(lake, "names.json", Names, with_name(name)), names))
    written, wrong = shared_value.change(lake, "names.json", Names, with_name("last"))
    assert (sorted(written.names[:-1]), written.names[-1], wrong) == (sorted(names), "last", "")
    assert Names.from_json(lake.get("names.json")) == written


def test_a_damaged_value_is_replaced_and_told(lake):
    lake.put("names.json", b'{"names":1}')
    written, wrong = shared_value.change(lake, "names.json", Names, with_name("a"))
    assert written == Names(names=("a",))
    assert "names.json" in wrong


def test_a_writer_that_never_comes_first_says_so(lake, monkeypatch):
    monkeypatch.setattr(Store, "swap", lambda *_: False)
    with pytest.raises(StoreError, match=r"names\.json was written by others 20 times in a row"):
        shared_value.change(lake, "names.json", Names, with_name("a"))
