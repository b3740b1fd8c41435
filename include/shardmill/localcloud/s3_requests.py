"""Requests to S3 as they arrive: their bodies, what they address, and those that are refused before moto sees them."""

from __future__ import annotations

import hashlib
import io
from typing import Any
from urllib.parse import unquote

from werkzeug.wrappers import Response

_ERROR = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'


def read_body(environ: dict[str, Any]) -> None:
    """Read the body into memory, chunked ones too."""
    if environ.get("wsgi.input_terminated"):  # chunked: werkzeug's reader ends by itself
        body = environ["wsgi.input"].read()
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)
    else:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)


def damaged(environ: dict[str, Any]) -> Response | None:
    """Refuse a body that is not the one that was signed; moto does not look."""
    signed = environ.get("HTTP_X_AMZ_CONTENT_SHA256", "")
    body: io.BytesIO = environ["wsgi.input"]
    if len(signed) != 64 or hashlib.sha256(body.getbuffer()).hexdigest() == signed:
        return None
    message = "The provided 'x-amz-content-sha256' header does not match what was computed."
    return error_answer(400, "XAmzContentSHA256Mismatch", message)


def addressed(environ: dict[str, Any]) -> tuple[str, str]:
    """Give bucket and key of a request in path style, the key exactly as it was sent."""
    path = environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ.get("PATH_INFO", "")
    bucket, _, key = unquote(path.partition("?")[0]).lstrip("/").partition("/")
    return bucket, key


def error_answer(status: int, code: str, message: str) -> Response:
    """Make an answer as S3 refuses."""
    return Response(_ERROR.format(code=code, message=message), status, content_type="application/xml")


def unsupported(method: str, key: str, query: dict[str, list[str]]) -> Response | None:
    """Refuse what would be answered wrongly or forgotten at a restart."""
    if method == "PUT" and "versioning" in query:
        return error_answer(501, "NotImplemented", "The local S3 keeps one version of an object: no versioning.")
    if method in ("GET", "HEAD") and key and "partNumber" in query:
        return error_answer(501, "NotImplemented", "The local S3 reads by range, not by partNumber.")
    return None


def precondition(environ: dict[str, Any], query: dict[str, list[str]], etag: str | None) -> Response | None:
    """Check the conditions that moto ignores: on CopyObject, and If-Match on CompleteMultipartUpload."""
    copies = environ["REQUEST_METHOD"] == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" in environ and "partNumber" not in query
    completes = environ["REQUEST_METHOD"] == "POST" and "uploadId" in query
    if not copies and not completes:
        return None
    wanted = environ.get("HTTP_IF_MATCH")
    failed = ""
    if wanted is not None:
        if etag is None:
            return error_answer(404, "NoSuchKey", "The specified key does not exist.")
        failed = "If-Match" if wanted.strip('"') != etag else ""
    if copies and environ.get("HTTP_IF_NONE_MATCH") == "*" and etag is not None:
        failed = "If-None-Match"
    if not failed:
        return None
    message = f"At least one of the pre-conditions you specified did not hold: {failed}"
    return error_answer(412, "PreconditionFailed", message)
