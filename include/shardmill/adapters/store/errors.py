"""What can be wrong with an object or a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, PreconditionError, UnauthenticatedError


class StoreError(RuntimeError):
    """A folder or object could not be used as expected; the message says what to do."""


class MissingObjectError(StoreError):
    """An object that should be there is not."""


class ChangedObjectError(StoreError):
    """An object is no longer the version that was planned with."""


class DamagedObjectError(StoreError):
    """Bytes are not those that were committed: damaged at rest, or on the way, when another read may mend it."""


@contextmanager
def told(uri: str) -> Iterator[None]:
    """Raise what obstore finds as an error of ours that names the object."""
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        raise MissingObjectError(f"{uri} is not there") from error
    except PreconditionError as error:
        raise ChangedObjectError(f"{uri} changed since it was listed: trigger a new run") from error
    except (PermissionDeniedError, PermissionError, UnauthenticatedError) as error:
        raise StoreError(f"{uri} may not be used: check the connection's rights: {_first_line(error)}") from error
    except BaseError as error:
        raise StoreError(f"{uri}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
