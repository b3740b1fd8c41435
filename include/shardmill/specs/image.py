"""What the baking of a machine image asks, and what is known of one. The trigger form is made from ``ImageSpec``."""

from __future__ import annotations

from pydantic import Field

from shardmill.specs.cluster import InstanceType
from shardmill.specs.notify import NotifySpec
from shardmill.specs.value import LakeUri, OptionalUri, Sealed, Spec, in_section

BASE_NAMES = "al2023-ami-2023.*-kernel-6.1-x86_64"


class ImageSpec(NotifySpec):
    """Bake the machine image that clusters start from."""

    base: str = in_section(
        "What",
        BASE_NAMES,
        title="Base image",
        pattern=r"^(ami-[0-9a-f]{8,17}|[A-Za-z0-9()./_*?-]{3,128})$",
        examples=[BASE_NAMES, "ami-0123456789abcdef0"],
    )
    """The image to start from: its id, or a pattern of Amazon's names, of which the newest is taken."""
    instance_type: InstanceType = in_section("What", "g4dn.xlarge")
    """What the image is made and checked on; where it has a GPU, driver and CUDA libraries go in."""
    root_gib: int = in_section("What", 30, title="Root volume (GiB)", ge=10, le=1000)
    """Root volume of the image in GiB; a cluster's `root_volume_gib` must be as large at least."""
    release_label: str = in_section("What", "emr-7.13.0", pattern=r"^emr-[a-z0-9.-]{3,30}$", examples=["emr-7.13.0"])
    """EMR release by whose rules the image is checked."""
    lock: OptionalUri = in_section("Data", "", title="List of packages")
    """Hashed list of Python packages; empty for `requirements-cluster.txt` (with a GPU, the CUDA libraries too)."""
    wheels: OptionalUri = in_section("Data", "")
    """Folder of wheels in a bucket to install from, for subnets without the internet; empty for PyPI."""
    keep: int = in_section("What", 3, title="Images to keep", ge=1, le=100)
    """Of the images baked here the newest so many stay, and those that a live cluster uses."""

    lake: LakeUri = in_section("Where", "s3://shardmill-lake")
    """Folder that the list of packages and the results are put into, below `images/`."""
    subnet_id: str = in_section(
        "Where", "", pattern=r"^(subnet-[0-9a-f]{8,17})?$", examples=["subnet-0123456789abcdef0"]
    )
    """Subnet of the instance, with a way to the packages; empty for the account's default."""
    instance_profile: str = in_section("Where", "", pattern=r"^[A-Za-z0-9_+=,.@-]{0,128}$", examples=["shardmill-bake"])
    """IAM instance profile; none is needed."""

    max_hours: float = in_section("Guards", 2.0, title="Hours at most", ge=0.1, le=24)
    """The instance shuts itself down after so many hours, whatever hangs."""


class Volume(Spec):
    """A block device that an image names."""

    device: str
    gib: int | None = None
    """Its size, where the image says one."""


class ImageFacts(Spec):
    """What EC2 says of an image, as far as EMR's rules go."""

    image_id: str
    name: str = ""
    description: str = ""
    source_name: str = ""
    """Name of the image that it was made from, where that can be seen."""
    state: str
    architecture: str
    """``x86_64`` or ``arm64``; ``i386`` exists."""
    virtualization: str
    root_device_type: str
    root_device: str
    platform: str = ""
    """``windows`` or nothing."""
    volumes: tuple[Volume, ...] = ()
    """EBS volumes; what lies on the instance itself is none."""
    tags: dict[str, str] = Field(default_factory=dict)

    @property
    def root_gib(self) -> int | None:
        """Size of the root volume in GiB, where the image says one."""
        return next((volume.gib for volume in self.volumes if volume.device == self.root_device), None)


class BrokenRule(Spec):
    """A rule of EMR's that an image breaks."""

    rule: str
    """Its name."""
    found: str
    """What was expected and what was found."""
    mend: str
    """What to do."""

    def __str__(self) -> str:
        return f"{self.rule}: {self.found}; {self.mend}"


class ImageVerdict(Sealed):
    """What came of checking an image for a release and an architecture; kept in the lake where nothing is broken."""

    image_id: str
    release_label: str
    architecture: str
    """Of the instance types that the image is to start on."""
    broken: tuple[BrokenRule, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be told from outside."""


class BakeResult(Spec):
    """What the script on the instance says of itself, as it puts it into the lake."""

    ok: bool
    step: str
    """The step that was begun last."""
    lines: tuple[str, ...] = ()
    """The last lines of its log."""
    seconds: int = 0
    python: str = ""
    packages: dict[str, str] = Field(default_factory=dict)
    """Version by the name of each package of the list."""
    imported: int = 0
    """Modules that were imported for a trial."""
    ffmpeg: str = ""
    """First line of ``ffmpeg -version``."""
    gpu: str = ""
    """What ``nvidia-smi`` names; empty where the machine has no NVIDIA device."""


class BakePlan(Sealed):
    """What a run bakes, stored as ``images/bakes/<name>/plan.json``; one that finds its image names it."""

    name: str
    """Of this bake: made from the run and the lake; ``bake-`` and a hash."""
    asked: ImageSpec
    base_id: str
    base_name: str
    architecture: str
    root_device: str
    gpu: bool
    """Whether the instance type has an NVIDIA GPU."""
    lock_sha256: str
    recipe: str
    """Short hash of all that the image is made from; part of its name, and its tag."""
    image_id: str = ""
    """An image of this very recipe that is there already."""

    @property
    def image_name(self) -> str:
        """Of this bake alone: whoever bakes the same elsewhere makes an image of their own, and vouches for that."""
        return f"shardmill-cluster-{self.recipe}-{self.name.removeprefix('bake-')}"
