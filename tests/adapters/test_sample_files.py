from __future__ import annotations

import io
import tarfile

import av
import pytest

from shardmill.adapters.sample_files import encode_scene, write_tar
from shardmill.core.sample_scenes import Scene

SCENE = Scene(1, ("sunrise", "drum"), seconds=1.0)


def test_a_scene_gives_the_same_bytes_every_time():
    assert encode_scene(SCENE) == encode_scene(SCENE)


def test_pictures_and_sound_are_encoded():
    with av.open(io.BytesIO(encode_scene(SCENE))) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
        assert sum(1 for _ in container.decode(video=0)) == 12


def test_a_variable_rate_stays_variable():
    scene = Scene(1, ("sunset",), seconds=1.0, times=(0.0, 0.1, 0.5, 0.6))
    with av.open(io.BytesIO(encode_scene(scene))) as container:
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx(scene.times, abs=1e-3)


def test_a_tar_appears_whole_or_not_at_all(tmp_path):
    def broken():
        yield "a.txt", b"a"
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_tar(tmp_path / "x.tar", broken())
    assert list(tmp_path.iterdir()) == []
    write_tar(tmp_path / "x.tar", [("-a.txt", b"a"), ("ü.txt", b"b")])
    with tarfile.open(tmp_path / "x.tar") as tar:
        assert tar.getnames() == ["-a.txt", "ü.txt"]
