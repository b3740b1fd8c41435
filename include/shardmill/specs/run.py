"""A run: what was asked, under which name, and where its folder is."""

from __future__ import annotations

from shardmill.specs.value import Name, Spec
from shardmill.specs.video_pipeline import VideoPipelineSpec


class RunSpec(Spec):
    """The record of one run, stored as ``runs/<run>/spec.json`` in the lake."""

    run: Name
    """Name of the run; its folder in the lake."""
    started: str
    """When the run was planned, ISO 8601 in UTC."""
    asked: VideoPipelineSpec
    """What was asked."""

    @property
    def folder(self) -> str:
        """URI of the run's folder."""
        return f"{self.asked.lake}/runs/{self.run}"
