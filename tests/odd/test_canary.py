"""What inputs name outside of themselves is neither read nor called."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import imageio_ffmpeg
import pytest
from odd.calls import Call, read_calls, traced, why_not
from odd.conftest import CANARY_TEXT, Visits, shard_of
from odd.hostile import PLAYLISTS
from odd.rows import Becomes, Canary
from odd.splitting import Place, Result, run_program

import shardmill

SECRET = CANARY_TEXT.strip().encode()
NAMED = {**PLAYLISTS}


def wait_for_visits(visits: Visits, count: int) -> None:
    """Wait until so many were noted, and no more come: who comes is noted by a thread, a moment later."""
    end, seen = time.monotonic() + 10, -1
    while (len(visits.heard) < count or len(visits.heard) > seen) and time.monotonic() < end:
        seen = len(visits.heard)
        time.sleep(0.3)


def test_the_canary_notes_who_comes(canary: Canary, visits: Visits):
    before = len(visits.heard)
    socket.create_connection(("127.0.0.1", canary.tcp)).close()
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", canary.udp))
    wait_for_visits(visits, before + 2)
    assert sorted(visits.heard[before:]) == ["tcp", "udp"]
    del visits.heard[before:]


def test_ffmpeg_without_our_limits_goes_where_they_point(made, canary: Canary, visits: Visits, tmp_path):
    """Show that the inputs are as bad as they claim: else that they do no harm here would prove nothing."""
    ffmpeg, onwards = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"], ["-frames:v", "1", "-f", "rawvideo", "-"]
    script, playlist = tmp_path / "x.mp4", tmp_path / "x.m3u8"
    script.write_bytes(made["concat"])
    played = subprocess.run(
        [*ffmpeg, "-safe", "0", "-i", script, *onwards], check=False, capture_output=True, timeout=20
    )
    assert played.stdout
    playlist.write_bytes(made["hls-http"])
    before = len(visits.heard)
    loose = [*ffmpeg, "-protocol_whitelist", "file,http,tcp", "-i", playlist, *onwards]
    subprocess.run(loose, check=False, capture_output=True, timeout=20)
    wait_for_visits(visits, before + 1)
    assert "tcp" in visits.heard[before:]
    del visits.heard[before:]


def test_nobody_called_the_canary(split_files: Result, visits: Visits):
    assert set(PLAYLISTS) <= {reject.key for reject in split_files.manifest.rejects} | set(split_files.clips)
    assert visits.heard == []


def test_the_canarys_bytes_are_in_no_part(split_files: Result, canary: Canary):
    lake = split_files.place.lake
    written = [item.key for item in lake.list("clips")]
    assert written
    assert not [key for key in written if SECRET in lake.get(key) and key.endswith(".tar")]
    assert SECRET in canary.video.read_bytes()


@pytest.fixture(scope="module")
def calls(made, good, canary, tmp_path_factory) -> tuple[Place, list[Call]]:
    """Split what names the canary under strace."""
    if why := why_not():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("traced")
    place, log = Place(folder / "place"), folder / "calls"
    place.ingest(shard_of(made, good, NAMED))
    done = run_program(place, before=traced(log))
    assert done.returncode == 0, done.stderr
    return place, list(read_calls(log))


def test_all_of_the_work_was_watched(calls):
    place, seen = calls
    result = place.result()
    assert result.fates("good-first") == result.fates("good-last") == [Becomes(2, 75)]
    assert {name: result.fates(name) for name in NAMED} == {name: [row.fate] for name, row in NAMED.items()}
    opened = [call.path for call in seen if call.succeeded and call.path]
    assert any(path.startswith(str(place.folder)) for path in opened)
    assert any("ffmpeg" in call.arguments for call in seen if call.name == "execve" and call.succeeded)


def test_no_process_opens_the_canary(calls, canary: Canary):
    _, seen = calls
    assert [call for call in seen if canary.file.parent.name in call.arguments] == []


def allowed(place: Place) -> tuple[str, ...]:
    """Give the places in which files may be opened."""
    environment = {Path(name).resolve() for name in (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())}
    ours = (Path(shardmill.__file__).parent.parent, Path(__file__).parent.parent, place.folder)
    system = (
        "/usr",
        "/lib",
        "/lib64",
        "/proc",
        "/sys",
        "/dev",
        "/etc/ld.so.cache",
        "/etc/locale.alias",
        "/tmp/nsl_",
        "/etc/mime.types",
        "/etc/localtime",
    )
    users = ("/etc/nsswitch.conf", "/etc/passwd", "/etc/ssl/openssl.cnf")
    return (*map(str, (*environment, *ours)), *system, *users)


def _outside(path: str) -> str:
    """Give a path as it is outside, where it was told while a sandbox was built; empty for the root."""
    found = re.match(r"(?:/(?:newroot|oldroot|new|old)(?=/|$))*(/.*)?$", path)
    return "" if found is None or found[1] in (None, "/") else found[1]


def test_no_process_opens_a_file_elsewhere(calls):
    place, seen = calls
    places = allowed(place)
    opened = {_outside(call.path) for call in seen if call.name.startswith("open") and call.succeeded}
    elsewhere = {path for path in opened if path and not any(f"{path}/".startswith(f"{one}/") for one in places)}
    assert elsewhere == set()


def test_no_process_makes_a_socket_that_leads_out(calls):
    _, seen = calls
    assert [call for call in seen if call.family.startswith("AF_INET") and call.succeeded] == []


def test_nothing_but_our_programs_is_started(calls):
    _, seen = calls
    started = {
        call.arguments.partition(",")[0].strip('"')
        for call in seen
        if call.name.startswith("execve") and call.succeeded
    }
    names = {Path(path).name for path in started}
    assert names - {"sh", "dash", "bwrap", "unshare"} == {
        Path(sys.executable).name,
        Path(imageio_ffmpeg.get_ffmpeg_exe()).name,
    }
