"""The page of a run's report: one self-contained HTML file, without scripts, everything from data escaped."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from shardmill.core.page import Page
from shardmill.core.page_text import (
    change_text,
    count_text,
    duration_text,
    hours_text,
    moment_text,
    number_text,
    printable,
    score_text,
    size_text,
    span_text,
    usd_text,
)

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
        "loss": lambda value: "–" if value is None else f"{value:.4g}",
        "change": change_text,
        "number": number_text,
        "moment": moment_text,
        "hours": lambda hours: duration_text(None if hours is None else 3600 * hours),
        "usd": usd_text,
        "hours_span": hours_text,
        "usd_span": lambda span: span_text(span, usd_text),
        "data": printable,
    }
    return environment


def _check_embedded(page: Page) -> None:
    """Refuse what a browser would have to fetch. Raises ValueError."""
    shown = [one for group in page.groups for one in group.videos]
    pictures, clips = [one.picture for one in shown], [one.clip for one in shown]
    if not all(not uri or uri.startswith("data:image/jpeg;base64,") for uri in pictures):
        raise ValueError("expected pictures as data: URIs of JPEG")
    if not all(not uri or uri.startswith("data:video/mp4;base64,") for uri in clips):
        raise ValueError("expected clips as data: URIs of MP4")


def render(page: Page) -> bytes:
    """Write the page. Its own policy lets it load nothing but the pictures, the clips and the style that it holds."""
    _check_embedded(page)
    environment = _environment()
    style = environment.get_template(STYLE).render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    # The style is our own file, and a <style> element knows no entities.
    text = environment.get_template(PAGE).render(page=page, style=Markup(style), policy=policy)  # noqa: S704
    return text.lstrip().encode()
