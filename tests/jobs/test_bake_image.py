from __future__ import annotations

import pytest

from shardmill.adapters.roots import Roots
from shardmill.core.planning import BadRequestError
from shardmill.jobs.bake_image import check_asked, read_lock
from shardmill.specs.image import ImageSpec

ROOTS = Roots(sources=("s3://packages",), lakes=("s3://lake",))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"lake": "file:///lake"}, "lake: an instance reads and writes s3:// only"),
        ({"lake": "s3://other"}, "lake: s3://other lies below none"),
        ({"lake": "s3://lake", "lock": "s3://other/lock.txt"}, "lock: s3://other/lock.txt lies below none"),
        ({"lake": "s3://lake", "wheels": "gs://packages"}, "wheels: gs://packages lies below none"),
    ],
)
def test_a_place_that_an_instance_or_this_installation_cannot_use_is_refused(asked, message):
    with pytest.raises(BadRequestError, match=message):
        check_asked(ImageSpec(**asked), ROOTS)


def test_packages_may_lie_among_the_sources_and_in_the_lake():
    check_asked(ImageSpec(lake="s3://lake", lock="s3://packages/lock.txt", wheels="s3://lake/wheels"), ROOTS)


def test_wheels_elsewhere_than_in_s3_are_refused_even_where_they_may_be_read():
    with pytest.raises(BadRequestError, match="wheels: an instance reads s3:// only"):
        check_asked(ImageSpec(lake="s3://lake", wheels="gs://packages/wheels"), Roots(("gs://",), ("s3://lake",)))


def test_the_list_is_the_clusters_with_cuda_libraries_only_where_there_is_a_gpu(lake):
    with_gpu, without = (read_lock(ImageSpec(), gpu=gpu, settings=lake.settings) for gpu in (True, False))
    assert "\ntensorflow==" in without
    assert "nvidia-cudnn" not in without
    assert with_gpu.startswith(without.rstrip("\n"))
    assert "\nnvidia-cudnn-cu12==" in with_gpu


def test_a_list_of_ones_own_is_taken_as_it_is(lake):
    lake.put("lock.txt", b"a==1 --hash=sha256:0\n")
    asked = ImageSpec(lock=lake.uri_of("lock.txt"))
    assert read_lock(asked, gpu=True, settings=lake.settings) == "a==1 --hash=sha256:0\n"
    with pytest.raises(BadRequestError, match=r"lock: .* is not there"):
        read_lock(ImageSpec(lock=lake.uri_of("no.txt")), gpu=True, settings=lake.settings)
