"""Bake a machine image: each step finds what an earlier try left, and does what is missing."""

from shardmill.jobs.bake_image.finishing import approve, finish, make_image, prune
from shardmill.jobs.bake_image.launching import Started, start
from shardmill.jobs.bake_image.opened import OpenBake, name_of, open_bake, was_launched
from shardmill.jobs.bake_image.planning import check_asked, plan_bake, read_lock

__all__ = [
    "OpenBake",
    "Started",
    "approve",
    "check_asked",
    "finish",
    "make_image",
    "name_of",
    "open_bake",
    "plan_bake",
    "prune",
    "read_lock",
    "start",
    "was_launched",
]
