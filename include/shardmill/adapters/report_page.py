"""The page of a run's report: one self-contained HTML file, without scripts, everything from data escaped."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from shardmill.core.page import (
    Page,
    count_text,
    duration_text,
    hours_text,
    score_text,
    size_text,
    span_text,
    usd_text,
)
from shardmill.core.report import printable

PAGE = "report.html.j2"
STYLE = "report.css"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("shardmill", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": score_text,
        "count": count_text,
        "duration": duration_text,
        "size": size_text,
        "hours": hours_text,
        "usd": usd_text,
        "hours_span": lambda span: span_text(span, hours_text),
        "usd_span": lambda span: span_text(span, usd_text),
        "data": printable,
    }
    return environment


def _is_picture(uri: str) -> bool:
    return uri.startswith(("data:image/jpeg;base64,", "data:image/png;base64,"))


def render(page: Page) -> bytes:
    """Write the page. Its own policy lets it load nothing but the pictures and the style that it holds."""
    environment = _environment()
    style = environment.get_template(STYLE).render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    if not all(_is_picture(uri) for shown in page.shown for uri in shown.pictures):
        raise ValueError("expected pictures as data: URIs of JPEG or PNG")
    # The style is our own file, and a <style> element knows no entities.
    text = environment.get_template(PAGE).render(page=page, style=Markup(style), policy=policy)  # noqa: S704
    return text.encode()
