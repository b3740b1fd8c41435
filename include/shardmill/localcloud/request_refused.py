"""The error by which AWS refuses a request."""

from __future__ import annotations


class RefusedError(ValueError):
    """AWS would not do this; ``code`` is the error's name in the answer."""

    def __init__(self, message: str, code: str = "ValidationException") -> None:
        super().__init__(message)
        self.code = code
