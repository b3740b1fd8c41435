from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shardmill.core.bake_pruning import ABANDONED, SETTLED, orphans, to_prune

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def image(number, *, created="", **tags):
    mappings = [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": f"snap-{number}"}}, {"VirtualName": "ephemeral0"}]
    return {
        "ImageId": f"ami-{number}",
        "CreationDate": created or f"2026-11-{number:02}T00:00:00.000Z",
        "BlockDeviceMappings": mappings,
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }


def snapshot(name, age=SETTLED):
    return {"SnapshotId": name, "StartTime": NOW - age}


def test_the_newest_images_those_in_use_and_those_of_others_stay():
    images = [image(number, shardmill="cluster", recipe="r") for number in range(1, 7)]
    images.append(image(9, shardmill="cluster"))
    doomed = to_prune(images, keep=2, in_use={"ami-3"}, now=NOW)
    assert doomed == [("ami-4", ("snap-4",)), ("ami-2", ("snap-2",)), ("ami-1", ("snap-1",))]


def test_an_image_of_a_failed_bake_goes_when_nobody_can_be_waiting_for_it():
    old, young = (NOW - ABANDONED).isoformat(), (NOW - ABANDONED + timedelta(seconds=1)).isoformat()
    images = [
        image(1, created=old, shardmill="bake", recipe="r"),
        image(2, created=young, shardmill="bake", recipe="r"),
        image(3, created=old, shardmill="bake", recipe="r"),
        image(4, created="", shardmill="bake", recipe="r") | {"CreationDate": ""},
    ]
    assert to_prune(images, keep=1, in_use={"ami-3"}, now=NOW) == [("ami-1", ("snap-1",))]


def test_unapproved_images_take_no_place_of_those_that_are_kept():
    images = [image(20, shardmill="bake", recipe="r"), image(1, shardmill="cluster", recipe="r")]
    assert to_prune(images, keep=1, in_use=(), now=NOW) == []


def test_a_snapshot_goes_when_no_image_lies_on_it_and_none_can_be_coming():
    snapshots = [snapshot("snap-1"), snapshot("snap-9"), snapshot("snap-8", SETTLED - timedelta(seconds=1))]
    assert orphans(snapshots, [image(1)], NOW) == ("snap-9",)
