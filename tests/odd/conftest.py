"""All inputs made once, laid into shards, and split once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from odd.good import LAVFI, X264, plain
from odd.inputs import FILES, HEAVY, MEMBERS, STRETCHED
from odd.rows import Canary, Kitchen, OddMember, run_ffmpeg
from odd.splitting import Place, Result, tar_of
from odd.tars import END, padded

CANARY_TEXT = "a canary that sings 7c1f0d52-no-other-file-says-this\n"


@dataclass
class Visits:
    """Who came to the canary's ports."""

    heard: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def visits() -> Visits:
    return Visits()


@pytest.fixture(scope="session")
def canary(tmp_path_factory: pytest.TempPathFactory, visits: Visits) -> Iterator[Canary]:
    """A file, a video, a TCP and a UDP port that nobody may touch."""
    folder = tmp_path_factory.mktemp("outside")
    file, video = folder / "canary.txt", folder / "canary.mp4"
    file.write_text(CANARY_TEXT)
    run_ffmpeg(*LAVFI, "color=magenta:s=64x48:r=25:d=4", *X264, "-metadata", f"title={CANARY_TEXT.strip()}", video)
    over = threading.Event()
    tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))

    def note(listener: socket.socket, kind: str) -> None:
        listener.settimeout(0.2)
        while not over.is_set():
            try:
                if kind == "tcp":
                    listener.accept()[0].close()
                else:
                    listener.recv(65536)
            except TimeoutError:
                continue
            visits.heard.append(kind)

    threads = [threading.Thread(target=note, args=pair) for pair in ((tcp, "tcp"), (udp, "udp"))]
    for thread in threads:
        thread.start()
    yield Canary(file, video, tcp.getsockname()[1], udp.getsockname()[1])
    over.set()
    for thread, listener in zip(threads, (tcp, udp), strict=True):
        thread.join()
        listener.close()


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Kitchen:
    return Kitchen(tmp_path_factory.mktemp("kitchen"), canary)


@pytest.fixture(scope="session")
def good(kitchen: Kitchen) -> bytes:
    """A good video: two clips of 75 frames."""
    return plain(kitchen)


@pytest.fixture(scope="session")
def short(kitchen: Kitchen) -> bytes:
    """A good video of one clip and five frames."""
    return kitchen.ffmpeg(*LAVFI, "testsrc2=s=64x32:r=5:d=1", *X264)


@pytest.fixture(scope="session")
def made(kitchen: Kitchen) -> dict[str, bytes]:
    """Every odd file."""
    rows = {**FILES, **STRETCHED, **HEAVY}
    with ThreadPoolExecutor(2) as pool:
        contents = pool.map(lambda name: rows[name].make(kitchen), rows)
        return dict(zip(rows, contents, strict=True))


def shard_of(made: dict[str, bytes], good: bytes, names: dict) -> bytes:
    """Lay files into a tar, between two good ones."""
    files = [(f"{name}.{row.suffix}", made[name]) for name, row in names.items()]
    return tar_of([("good-first.mp4", good), *files, ("good-last.mp4", good)])


@pytest.fixture(scope="session")
def split_files(tmp_path_factory: pytest.TempPathFactory, made: dict[str, bytes], good: bytes) -> Result:
    """The shard of all odd files."""
    place = Place(tmp_path_factory.mktemp("files"))
    place.ingest(shard_of(made, good, FILES))
    place.split()
    return place.result()


def tar_of_members(short: bytes, rows: Iterable[OddMember]) -> bytes:
    """Lay members into a tar, between two good videos."""
    first, last = (tar_of([(f"good-{name}.mp4", short)]).rstrip(b"\0") for name in ("first", "last"))
    return b"".join(map(padded, (first, *(row.blocks(short) for row in rows), last))) + END


@pytest.fixture(scope="session")
def split_members(tmp_path_factory: pytest.TempPathFactory, short: bytes) -> Result:
    """The shard of all odd members that fail no shard."""
    place = Place(tmp_path_factory.mktemp("members"))
    place.ingest(tar_of_members(short, (row for row in MEMBERS.values() if not row.fault)))
    place.split()
    return place.result()
