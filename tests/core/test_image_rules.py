from __future__ import annotations

import pytest

from shardmill.core.image_rules import check_image, root_volume_rules, system_of_release
from shardmill.core.planning import BadRequestError
from shardmill.specs.image import ImageFacts, Volume

GOOD = ImageFacts(
    image_id="ami-0123456789abcdef0",
    name="shardmill-cluster-abc",
    source_name="al2023-ami-2023.9.20261105.0-kernel-6.1-x86_64",
    state="available",
    architecture="x86_64",
    virtualization="hvm",
    root_device_type="ebs",
    root_device="/dev/xvda",
    volumes=(Volume(device="/dev/xvda", gib=30),),
    tags={"recipe": "abc"},
)
X86 = {"m5.xlarge": "x86_64", "g4dn.xlarge": "x86_64"}


def broken(release="emr-7.13.0", types=X86, **changes):
    return [rule.rule for rule in check_image(GOOD.model_copy(update=changes), release, types).broken]


def test_a_good_image_breaks_no_rule_and_nothing_is_left_untold():
    verdict = check_image(GOOD, "emr-7.13.0", X86)
    assert (verdict.broken, verdict.notes, verdict.architecture) == ((), (), "x86_64")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"state": "pending"}, "available"),
        ({"architecture": "i386"}, "64 bit"),
        ({"virtualization": "paravirtual"}, "virtualization"),
        ({"root_device_type": "instance-store"}, "EBS-backed"),
        ({"volumes": ()}, "one EBS volume"),
        ({"volumes": (*GOOD.volumes, Volume(device="/dev/sdb", gib=1))}, "one EBS volume"),
        ({"tags": {"aws:elasticmapreduce:job-flow-id": "j-1"}}, "not of an EMR node"),
        ({"architecture": "arm64"}, "architecture"),
        ({"source_name": "amzn2-ami-hvm-2.0.20260101-x86_64-gp2"}, "operating system"),
        ({"source_name": "amzn-ami-hvm-2018.03.0.20181129-x86_64-gp2"}, "operating system"),
        ({"source_name": "ubuntu/images/hvm-ssd/ubuntu-noble-24.04"}, "operating system"),
        ({"platform": "windows"}, "operating system"),
    ],
)
def test_each_broken_rule_is_named_alone(changes, rule):
    assert broken(**changes) == [rule]


def test_all_broken_rules_are_named_together_with_what_was_found_and_what_to_do():
    verdict = check_image(
        GOOD.model_copy(update={"virtualization": "paravirtual", "state": "failed"}), "emr-7.13.0", X86
    )
    assert [str(rule).partition(";")[0] for rule in verdict.broken] == [
        "available: expected available, found failed",
        "virtualization: expected hvm, found paravirtual",
    ]
    assert all("bake_gpu_ami" in rule.mend for rule in verdict.broken)


@pytest.mark.parametrize(
    ("release", "system"),
    [
        ("emr-7.13.0", "Amazon Linux 2023"),
        ("emr-7.0.0", "Amazon Linux 2023"),
        ("emr-spark-8.0.0", "Amazon Linux 2023"),
        ("emr-6.15.0", "Amazon Linux 2"),
        ("emr-5.36.2", "Amazon Linux 2"),
    ],
)
def test_each_release_has_its_amazon_linux(release, system):
    assert system_of_release(release) == system


def test_an_image_of_amazon_linux_2_is_for_release_6_and_not_for_7():
    old = {"source_name": "amzn2-ami-hvm-2.0.20260101-x86_64-gp2"}
    assert broken("emr-6.15.0", **old) == []
    assert broken("emr-6.15.0") == ["operating system"]


@pytest.mark.parametrize("label", ["emr-5.23.0", "emr-4.9.6", "7.13.0", "emr-7"])
def test_a_release_without_a_system_is_refused(label):
    with pytest.raises(BadRequestError, match="release_label: "):
        check_image(GOOD, label, X86)


def test_a_tag_tells_the_system_where_names_do_not_and_else_a_note_does():
    nameless = GOOD.model_copy(update={"source_name": "", "name": "mine"})
    told = check_image(nameless, "emr-7.13.0", X86)
    assert told.broken == ()
    assert "tag it os=al2023" in told.notes[0]
    assert broken(source_name="", name="mine", tags={"os": "amzn2-", "recipe": "x"}) == ["operating system"]
    assert (
        check_image(nameless.model_copy(update={"tags": {"os": "al2023", "recipe": "x"}}), "emr-7.13.0", X86).notes
        == ()
    )


def test_what_nobody_sees_from_outside_is_said_of_an_image_that_was_not_baked_here():
    (note,) = check_image(GOOD.model_copy(update={"tags": {}}), "emr-7.13.0", X86).notes
    assert "SSM agent" in note
    assert "hadoop" in note


def test_types_of_two_architectures_need_two_images():
    with pytest.raises(BadRequestError, match=r"m6g\.xlarge is arm64, m7i\.xlarge is x86_64"):
        check_image(GOOD, "emr-7.13.0", {"m7i.xlarge": "x86_64", "m6g.xlarge": "arm64"})
    arm = GOOD.model_copy(update={"architecture": "arm64"})
    assert check_image(arm, "emr-7.13.0", {"m6g.xlarge": "arm64"}).broken == ()


@pytest.mark.parametrize(
    ("release", "gib", "image_gib", "count"),
    [
        ("emr-7.13.0", 30, 30, 0),
        ("emr-7.13.0", 29, 30, 1),
        ("emr-7.13.0", 14, 8, 1),
        ("emr-7.13.0", 14, 15, 2),
        ("emr-6.9.0", 10, 8, 0),
        ("emr-6.10.0", 10, 8, 1),
        ("emr-7.13.0", 15, None, 0),
    ],
)
def test_the_root_volume_holds_the_image_and_is_no_smaller_than_the_release_allows(release, gib, image_gib, count):
    facts = GOOD.model_copy(update={"volumes": (Volume(device="/dev/xvda", gib=image_gib),)})
    found = root_volume_rules(facts, release, gib)
    assert [rule.rule for rule in found] == ["root volume"] * count
    assert all("root_volume_gib" in rule.mend for rule in found)
