"""List where the clips of shards can be read, for any tool that takes URLs of tar files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shardmill.adapters.stage_manifests import list_manifests, read_in_order, read_manifest
from shardmill.adapters.store import MissingObjectError, Store
from shardmill.core.layout import shard_name
from shardmill.core.stage_output import StageOutput


def list_urls(
    lake: Store, dataset: str, recipe_hash: str, shards: Sequence[int] | None = None, *, hours: float = 0
) -> Iterator[str]:
    """Yield a URL for each part of the clips, shard by shard, as the manifests list them.

    Of a lake on disk these are paths.

    Args:
        recipe_hash: of the split recipe: the name of the clips' folder.
        shards: whose clips; None for all that have some.
        hours: how long anybody may read by the URLs; 0 for URIs of the lake, which need its credentials.

    Raises:
        MissingObjectError: a shard has no clips of this recipe.
    """
    output = StageOutput("clips", dataset, recipe_hash)
    listed = list_manifests(lake, output)
    wanted = list(listed) if shards is None else list(shards)
    if absent := [shard for shard in wanted if shard not in listed]:
        names = ", ".join(map(shard_name, absent[:5])) + (", …" if len(absent) > 5 else "")
        raise MissingObjectError(
            f"{lake.uri_of(output.folder)} holds no clips of {len(absent)} of {len(wanted)} shards: {names}: split them"
        )
    newest = (listed[shard][max(listed[shard])] for shard in wanted)
    for found in read_in_order(newest, lambda item: read_manifest(lake, output, item)):
        for part in found.manifest.parts:
            yield _url(lake, part.name, hours)


def _url(lake: Store, key: str, hours: float) -> str:
    if lake.folder is not None:
        return str(lake.folder / key)
    return lake.sign(key, hours) if hours > 0 else lake.uri_of(key)
