"""Make the secrets of a docker-compose stack, once, in two volumes. Standard library only.

Airflow reads its own through ``…_CMD`` settings, PostgreSQL its password through ``POSTGRES_PASSWORD_FILE``: none is in
an environment, in the compose file or in an image.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import sys
from pathlib import Path

USER = "admin"


def write(path: Path, text: str, mode: int) -> None:
    """Write a file whole or not at all, unless it is there."""
    if path.exists():
        return
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    unfinished.chmod(mode)  # whatever the umask made of it
    unfinished.rename(path)


def make_keys(keys: Path, database_key: Path, database: str) -> None:
    """Make what is missing.

    Args:
        keys: folder that only Airflow's services see.
        database_key: folder that PostgreSQL's service sees too; it runs as another user.
        database: host, port and name, e.g. ``postgres:5432/airflow``.
    """
    write(database_key / "password", secrets.token_urlsafe(32), 0o444)
    password = (database_key / "password").read_text()
    write(keys / "database", f"postgresql+psycopg2://airflow:{password}@{database}", 0o400)
    write(keys / "fernet", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(), 0o400)
    write(keys / "api", secrets.token_urlsafe(32), 0o400)
    write(keys / "jwt", secrets.token_urlsafe(48), 0o400)
    write(keys / "passwords.json", json.dumps({USER: secrets.token_urlsafe(12)}), 0o600)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("keys", type=Path)
    parser.add_argument("database_key", type=Path)
    parser.add_argument("--database", default="postgres:5432/airflow")
    asked = parser.parse_args()
    make_keys(asked.keys, asked.database_key, asked.database)
    return 0


if __name__ == "__main__":
    sys.exit(main())
