"""Find out what is to be baked, and whether it is there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import shardmill
from shardmill.adapters import baking
from shardmill.adapters.emr import RefusedError
from shardmill.adapters.images import examine
from shardmill.adapters.roots import Roots
from shardmill.adapters.store import MissingObjectError, Store, StoreSettings, read_uri
from shardmill.core import bake
from shardmill.core.planning import BadRequestError
from shardmill.jobs.bake_image.opened import GPU_LOCK, SCRIPT, OpenBake, shipped
from shardmill.specs.image import BakePlan, ImageSpec

CLUSTER_LOCK = "requirements-cluster.txt"


def check_asked(asked: ImageSpec, roots: Roots) -> None:
    """Refuse places that this installation may not use, or EC2 cannot reach. Raises BadRequestError."""
    if not asked.lake.startswith("s3://"):
        raise BadRequestError(f"lake: an instance reads and writes s3:// only, found {asked.lake}")
    roots.check_lake("lake", asked.lake)
    for name in ("lock", "wheels"):
        if uri := getattr(asked, name):
            _check_readable(roots, name, uri)
    if asked.wheels and not asked.wheels.startswith("s3://"):
        raise BadRequestError(f"wheels: an instance reads s3:// only, found {asked.wheels}")


def _check_readable(roots: Roots, name: str, uri: str) -> None:
    try:
        roots.check_lake(name, uri)  # what lies in the lake was put there by whoever may
    except BadRequestError:
        roots.check_source(name, uri)


def plan_bake(asked: ImageSpec, name: str, ec2: Any, lake: Store) -> tuple[BakePlan, str]:
    """Find out what is to be baked, and whether it is there already.

    Returns:
        The plan, and the URI at which it lies.

    Raises:
        RefusedError, BadRequestError: it cannot be done; names the field.
    """
    base = baking.find_base(ec2, asked.base)
    gpu = bake.check_type(asked.instance_type, baking.describe_type(ec2, asked.instance_type), base, asked.root_gib)
    verdict, _ = examine(ec2, base.image_id, asked.release_label, [asked.instance_type], lake)
    if verdict.broken:
        raise RefusedError(f"base: {base.image_id} breaks EMR's rules: {'; '.join(map(str, verdict.broken))}")
    lock = read_lock(asked, gpu=gpu, settings=lake.settings)
    bake.lock_pins(lock)
    recipe = bake.recipe_of(lock=lock, script=shipped(SCRIPT), base_id=base.image_id, root_gib=asked.root_gib, gpu=gpu)
    planned = BakePlan(
        name=name,
        asked=asked,
        base_id=base.image_id,
        base_name=base.name,
        architecture=base.architecture,
        root_device=base.root_device,
        gpu=gpu,
        lock_sha256=bake.sha256(lock),
        recipe=recipe,
        image_id=baking.find_image(ec2, recipe),
    )
    lake.put_new(OpenBake(planned, lake, ec2).lock_key, lock.encode())
    key = f"images/bakes/{name}/plan.json"
    lake.put(key, planned.to_json())  # when the run is cleared, it may find its own image
    return planned, lake.uri_of(key)


def read_lock(asked: ImageSpec, *, gpu: bool, settings: StoreSettings) -> str:
    """Read the list of packages: the one that was named, or the cluster's, with a GPU the CUDA libraries too."""
    if asked.lock:
        try:
            return read_uri(asked.lock, settings).decode()
        except MissingObjectError as error:
            raise BadRequestError(f"lock: {error}") from error
    return shipped_lock(gpu=gpu)


def shipped_lock(*, gpu: bool) -> str:
    """Read this version's list of packages for nodes; with a GPU the CUDA libraries too.

    Raises:
        BadRequestError: it did not come along.
    """
    package = Path(shardmill.__file__).parent
    # In a checkout it lies at the root; a wheel brings it along.
    places = (package.parents[1] / CLUSTER_LOCK, package / "node_scripts" / CLUSTER_LOCK)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise BadRequestError(f"lock: {places[0]} is not there: name a list of packages in a bucket")
    locks = [path.read_text(), *([shipped(GPU_LOCK)] if gpu else [])]
    return bake.joined_locks(*locks)
