from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmill.core.etags import MEBIBYTE, MOST_GUESSES, PIECE_SIZES, EtagCheck, Verdict

CONTENT = bytes(range(256)) * 50_000
"""12.2 MiB: three pieces of 5, two of 8."""


def md5(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


def pieces_etag(content: bytes, piece: int) -> str:
    digests = [md5(content[start : start + piece]) for start in range(0, len(content), piece)]
    return f'"{md5(b"".join(digests)).hex()}-{len(digests)}"'


def chunks_of(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def verdict_of(content: bytes, etag: str, *, uri: str = "s3://b/k", size: int = -1, chunk: int = 1_000_003) -> Verdict:
    check = EtagCheck(uri, etag, len(content) if size < 0 else size)
    for part in chunks_of(content, chunk):
        check.update(part)
    return check.verdict()


@pytest.mark.parametrize("quotes", ['"{}"', "{}"])
@pytest.mark.parametrize("content", [b"", b"x", CONTENT], ids=len)
def test_an_object_sent_whole_has_its_md5(content, quotes):
    assert verdict_of(content, quotes.format(md5(content).hex())) == "equal"
    assert verdict_of(content + b"!", quotes.format(md5(content).hex())) == "different"


@pytest.mark.parametrize("piece", [5, 8])
@pytest.mark.parametrize("size", [10 * MEBIBYTE, 10 * MEBIBYTE + 1, len(CONTENT)])
def test_the_pieces_of_the_usual_tools_are_known(piece, size):
    content = CONTENT[:size]
    etag = pieces_etag(content, piece * MEBIBYTE)
    assert verdict_of(content, etag) == "equal"
    assert verdict_of(content[:-1] + b"!", etag, size=size) == "different"


@given(st.binary(min_size=1, max_size=60), st.integers(1, 70), st.integers(1, 17))
def test_chunks_of_any_size_give_the_same_verdict(content, chunk, piece):
    from shardmill.core.etags import _PieceDigest

    digest = _PieceDigest(piece)
    for part in chunks_of(content, chunk):
        digest.update(part)
    assert f'"{digest.hexdigest()}-{-(-len(content) // piece)}"' == pieces_etag(content, piece)


def test_pieces_of_a_size_that_nobody_uses_look_like_others_or_say_nothing():
    assert verdict_of(CONTENT, pieces_etag(CONTENT, 7 * MEBIBYTE)) == "different"  # a second read tells
    assert verdict_of(CONTENT, pieces_etag(CONTENT, MEBIBYTE)) == "unknown"


def test_not_every_guess_is_hashed():
    check = EtagCheck("s3://b/k", '"' + "0" * 32 + '-1"', 1)
    assert len(check._digests) == MOST_GUESSES < len(PIECE_SIZES)


@pytest.mark.parametrize("etag", ["", '"abc"', "1a2b-3c-4d", '"0x8D9"', '"' + "0" * 32 + '-0"', '"' + "0" * 64 + '"'])
def test_what_is_no_md5_says_nothing(etag):
    check = EtagCheck("s3://b/k", etag, 10)
    check.update(b"0123456789")
    assert not check.says_something
    assert check.verdict() == "unknown"


@pytest.mark.parametrize("uri", ["gs://b/k", "file:///b/k"])
def test_other_stores_tags_are_not_taken_for_an_md5(uri):
    etag = f'"{md5(b"other").hex()}"'
    assert verdict_of(b"content", etag, uri=uri) == "unknown"
    assert not EtagCheck(uri, etag, 7).says_something
