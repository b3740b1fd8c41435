"""What runs for a local AWS, seen from outside."""

from __future__ import annotations

from pathlib import Path

from shardmill.localcloud.launch import LocalCloud


def processes_of(cloud: LocalCloud) -> dict[int, str]:
    """Every process whose environment names this local AWS, with its command line."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            if (
                folder.name.isdigit()
                and f"AWS_ENDPOINT_URL={cloud.endpoint}\0".encode() in (folder / "environ").read_bytes()
            ):
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found
