"""Price files: our own, or the one that a user names."""

from __future__ import annotations

from importlib.resources import files

from pydantic import ValidationError

from shardmill.adapters.store import MissingObjectError, StoreSettings, read_uri
from shardmill.core.planning import BadRequestError
from shardmill.specs.prices import Prices

OWN = "us-east-1.json"


def read_prices(uri: str, settings: StoreSettings | None = None) -> Prices:
    """Read a price file; without a URI the one that comes with the package.

    Raises:
        BadRequestError: it is not there, or is none; names the field and what is wrong.
    """
    try:
        content = read_uri(uri, settings) if uri else files("shardmill").joinpath("prices", OWN).read_bytes()
        return Prices.model_validate_json(content)
    except MissingObjectError as error:
        raise BadRequestError(f"prices: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadRequestError(f"prices: {uri}: {place}: {first['msg']}") from error
