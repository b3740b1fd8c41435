"""The page of the clusters that are alive: one self-contained HTML file, without scripts, everything escaped."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from shardmill.core.page_text import printable
from shardmill.core.reaping import HEADINGS, rows, whose
from shardmill.specs.reaping import ClustersReport

PAGE = "clusters.html.j2"
STYLE = "report.css"


def render(report: ClustersReport) -> bytes:
    """Write the page. Its own policy lets it load nothing but the style that it holds."""
    environment = Environment(
        loader=PackageLoader("shardmill", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data"] = printable
    style = environment.get_template(STYLE).render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    text = environment.get_template(PAGE).render(
        report=report,
        headings=HEADINGS,
        rows=tuple(rows(report)),
        whose=whose,
        style=Markup(style),  # noqa: S704  (our own file, and a <style> element knows no entities)
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
    )
    return text.encode()
