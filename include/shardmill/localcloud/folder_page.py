"""What a browser is shown of the local S3: objects as they are, and folders as pages that list them.

A person who follows a link signs nothing. Pages of the web may lead here but see nothing of it: browsers tell what they
want an answer for, and only what becomes a page of its own, in a tab of its own, is given away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any
from urllib.parse import parse_qs, quote

from werkzeug.wrappers import Response

LOCKED = "sandbox"
"""Policy of all that is shown: it belongs to no origin and runs no script, so it reads nothing else that is served."""
LOCKED_FOLDER = "sandbox allow-downloads"
"""The same of the pages that list folders, from which files are kept too."""
_TAB = ("navigate", "document")
_UNKNOWN = "binary/octet-stream"
_SHOWN = {".html": "text/html; charset=utf-8", ".json": "application/json", ".csv": "text/plain; charset=utf-8"}
"""What a browser is to show and not to keep, where nobody said of what type it is, by the end of its key."""
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 1000px; margin: 28px auto; padding: 0 20px; }
h1 { font-size: 19px; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
td, th { padding: 5px 14px 5px 0; text-align: left; border-bottom: 1px solid #8884; overflow-wrap: anywhere; }
td + td, th + th { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
"""


@dataclass(frozen=True)
class Listed:
    """An object of a bucket."""

    key: str
    size: int
    modified: float
    """Seconds since 1970."""


def is_asked_by_a_page(environ: dict[str, Any]) -> bool:
    """Say whether a page wants something for itself: a script, a picture, a frame. SDKs send no such headers."""
    if "HTTP_ORIGIN" in environ:
        return True
    wanted = _wanted(environ)
    return any(wanted) and wanted != _TAB


def is_opened_in_a_tab(environ: dict[str, Any]) -> bool:
    """Say whether somebody opens something in a browser: a report, or whatever a link leads to."""
    old_browser = environ["PATH_INFO"].endswith(".html") and not any(_wanted(environ)) and not is_signed(environ)
    return environ["REQUEST_METHOD"] in ("GET", "HEAD") and (_wanted(environ) == _TAB or old_browser)


def is_signed(environ: dict[str, Any]) -> bool:
    """Say whether a request bears a signature, be it any."""
    return "HTTP_AUTHORIZATION" in environ or "Signature=" in environ.get("QUERY_STRING", "")


def _wanted(environ: dict[str, Any]) -> tuple[str | None, str | None]:
    return environ.get("HTTP_SEC_FETCH_MODE"), environ.get("HTTP_SEC_FETCH_DEST")


def locked_up(start_response: Any, path: str, policy: str = LOCKED) -> Any:
    """Begin an answer of which a browser shows what it can, and which belongs to no origin and runs no script."""
    known = next((kind for end, kind in _SHOWN.items() if path.endswith(end)), "")

    def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        shown = [
            (name, known if known and (name.lower(), value) == ("content-type", _UNKNOWN) else value)
            for name, value in headers
        ]
        return start_response(status, [*shown, ("Content-Security-Policy", policy)], *more)

    return start


def folder_of(environ: dict[str, Any]) -> tuple[str, str] | None:
    """Give bucket and prefix of the folder that a request is for; None where it is for an object."""
    bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
    if key or not bucket:
        return None
    return bucket, parse_qs(environ.get("QUERY_STRING", "")).get("prefix", [""])[0]


def folder_page(bucket: str, prefix: str, listed: Iterable[Listed]) -> Response:
    """List what lies directly in a folder; each name leads on."""
    inside = [one for one in listed if one.key.startswith(prefix)]
    folders = sorted({one.key[len(prefix) :].partition("/")[0] for one in inside if "/" in one.key[len(prefix) :]})
    files = sorted((one for one in inside if "/" not in one.key[len(prefix) :]), key=lambda one: one.key)
    rows = [_row(f"{name}/", f"/{quote(bucket)}?prefix={quote(prefix + name)}/") for name in folders]
    for one in files:
        changed = datetime.fromtimestamp(one.modified, UTC).strftime("%Y-%m-%d %H:%M:%S")
        rows.append(_row(one.key[len(prefix) :], f"/{quote(bucket)}/{quote(one.key)}", f"{one.size:,}", changed))
    return _page(f"{bucket}/{prefix}", _above(bucket, prefix) + rows)


def _above(bucket: str, prefix: str) -> list[str]:
    if not prefix:
        return []
    parent = prefix.rstrip("/").rpartition("/")[0]
    return [_row("..", f"/{quote(bucket)}?prefix={quote(parent)}{'/' if parent else ''}")]


def _row(name: str, link: str, *facts: str) -> str:
    cells = "".join(f"<td>{escape(fact)}</td>" for fact in facts or ("", ""))
    return f'<tr><td><a href="{escape(link)}">{escape(name)}</a></td>{cells}</tr>'


def _page(name: str, rows: Sequence[str]) -> Response:
    head = "<tr><th>name</th><th>bytes</th><th>changed (UTC)</th></tr>"
    body = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(name)}</h1><table>{head}\n" + "\n".join(rows) + "</table>"
    )
    return Response(body, content_type="text/html; charset=utf-8")
