from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shardmill.specs.manifest import Manifest, Part, Receipt, Reject, SourceObject, Video
from shardmill.specs.run import PlannedShard, RunPlan
from shardmill.specs.value import Sealed, SealError, canonical_json

MANIFEST = Manifest(
    stage="clips",
    dataset="d",
    shard=3,
    revision=1,
    recipe_hash="0123456789ab",
    recipe={"crf": 22.5, "nested": {"b": 1, "a": [True, None]}},
    source=SourceObject(uri="s3://b/ü.tar", size=10, version='"v\\"1"'),
    samples_in=2,
    parts=(Part(name="clips/x.tar", size=3, sha256="0" * 64, samples=1),),
    videos=(Video(key="--<b>ä\u2028", clips=1, seconds=0.1 + 0.2, offsets=(512,), sizes=(3,)),),
    rejects=(Reject(key="\x00", reason="damaged", message='"sha256":"'),),
)


def test_what_was_sealed_is_read():
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST


def test_equal_values_give_equal_bytes_whatever_the_order_of_their_fields():
    again = Manifest(**dict(reversed(list(MANIFEST.model_dump().items()))))
    assert again.to_json() == MANIFEST.to_json()


def test_the_seal_is_the_hash_of_the_rest_at_the_end():
    found = json.loads(MANIFEST.to_json())
    assert list(found)[-1] == "sha256"
    seal = found.pop("sha256")
    assert MANIFEST.to_json().endswith(f',"sha256":"{seal}"}}'.encode())
    assert canonical_json(found) == canonical_json(MANIFEST.model_dump(mode="json"))


NOTICED = (SealError, ValidationError)


@pytest.mark.parametrize("bit", range(8))
def test_any_flipped_bit_is_noticed(bit):
    whole = MANIFEST.to_json()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << bit
        with pytest.raises(NOTICED):
            Manifest.from_json(bytes(flipped))


@given(st.data())
def test_any_changed_byte_is_noticed(data):
    whole = MANIFEST.to_json()
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(NOTICED):
        Manifest.from_json(bytes(changed))


@given(st.integers(0, len(MANIFEST.to_json()) - 1))
def test_any_cut_is_noticed(length):
    with pytest.raises(SealError):
        Manifest.from_json(MANIFEST.to_json()[:length])


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b'"text"', b"\xff\xfe", b"NaN", MANIFEST.to_json() * 2])
def test_what_is_no_json_of_an_object_is_named(content):
    with pytest.raises(SealError, match="expected JSON of a Manifest, found"):
        Manifest.from_json(content)


@pytest.mark.parametrize(
    "content",
    [
        MANIFEST.to_json() + b"\n",
        b" " + MANIFEST.to_json(),
        json.dumps(json.loads(MANIFEST.to_json()), indent=1).encode(),
        MANIFEST.to_json().replace(b'"shard":3', b'"shard":3.0'),
    ],
)
def test_equal_content_in_other_bytes_is_refused(content):
    with pytest.raises(SealError, match="the sha256 of this Manifest"):
        Manifest.from_json(content)


def test_what_was_written_before_there_were_seals_is_read():
    assert Manifest.from_json(MANIFEST.model_dump_json().encode()) == MANIFEST
    with pytest.raises(ValidationError):
        Manifest.from_json(b"{}")


def test_a_later_field_of_one_name_does_not_slip_in():
    whole = MANIFEST.to_json()
    doubled = whole.replace(b'"shard":3', b'"shard":4,"shard":3', 1)
    assert doubled != whole
    with pytest.raises(SealError):
        Manifest.from_json(doubled)


def test_deep_nesting_is_a_damaged_text_and_no_crash():
    with pytest.raises(SealError):
        Manifest.from_json(b'{"a":' + b"[" * 100_000)


def test_a_whole_value_of_another_kind_is_not_taken_for_this_one():
    plan = RunPlan(shards=(PlannedShard(shard=1, source=MANIFEST.source),))
    with pytest.raises(ValidationError):
        Manifest.from_json(plan.to_json())
    with pytest.raises(ValidationError):
        Receipt.from_json(plan.to_json())


def test_a_number_that_json_has_no_word_for_is_not_written():
    with pytest.raises(ValueError, match="JSON"):
        MANIFEST.model_copy(update={"videos": (Video(key="a", seconds=float("nan")),)}).to_json()


def test_whatever_text_data_holds_comes_back():
    class Text(Sealed):
        text: str

    @given(st.text())
    def check(text: str) -> None:
        assert Text.from_json(Text(text=text).to_json()).text == text

    check()
