"""The cores that may be used: by affinity, and by the quotas of a container, which do not show there."""

from __future__ import annotations

from os import sched_getaffinity

import pytest

from shardmill.adapters.cores import usable_cores

HERE = len(sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({"": "max 100000"}, HERE),
        ({"": "100000 100000"}, 1),
        ({"": "50000 100000"}, 1),
        ({"": "100000000 100000"}, HERE),
        ({"pod": "100000 100000", "pod/box": "max 100000"}, 1),
        ({"": "nonsense"}, HERE),
        ({}, HERE),
    ],
)
def test_the_least_of_affinity_and_all_quotas_counts(tmp_path, quotas, cores):
    own = tmp_path / "own"
    own.write_text("12:cpu:/v1\n0::/pod/box\n")
    for folder, quota in quotas.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "cpu.max").write_text(f"{quota}\n")
    assert usable_cores(tmp_path, own) == cores
    assert usable_cores(tmp_path / "absent", tmp_path / "absent") == HERE
