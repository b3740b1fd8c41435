"""### Amazon Linux 2023 → the machine image that clusters start from

**What a run does:** looks for an image of the same packages, base and script, and uses it where there is one.
Otherwise it launches one instance, which installs Python 3.11, the hashed list of packages, ffmpeg and, where the type
has a GPU, NVIDIA's driver and the CUDA libraries; checks itself from inside; puts the result into the lake; and shuts
itself down. An image is made of it, held against EMR's rules, and tagged `shardmill=cluster`: pipelines without an
`image_id` take the newest of these. Old images are removed.

**What it costs:** the instance for some 20 minutes, and the storage of `keep` images. The instance is terminated
whatever failed, and shuts itself down after `max_hours`, whatever hangs.

**What it leaves behind:** the image, and in the lake `images/`: the list of packages, the result, the verdict.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag

from shardmill.specs.image import ImageSpec
from shardmill_airflow import images
from shardmill_airflow.forms import form_of
from shardmill_airflow.notifying import watched
from shardmill_airflow.outcomes import remember_failure


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    params=form_of(ImageSpec),
    tags=["shardmill", "clusters"],
    doc_md=__doc__,
    dagrun_timeout=timedelta(days=2),
    default_args={
        "owner": "shardmill",
        "retries": 1,
        "retry_delay": timedelta(seconds=30),
        "execution_timeout": timedelta(hours=1),
        "on_failure_callback": remember_failure,
    },
    **watched(form_of(ImageSpec)),
)
def bake_gpu_ami() -> None:
    planned: Any = images.plan().as_setup()
    build = images.BuildOnInstance(task_id="build", plan_uri=planned).as_setup()
    make: Any = images.MakeImage(task_id="make_image", plan_uri=planned)
    end = images.EndBuilder(task_id="end_instance", plan_uri=planned)

    # The plan is a setup of the teardown too: so the instance ends even where `build` was marked failed.
    build >> make >> end.as_teardown(setups=[planned, build], on_failure_fail_dagrun=True)
    images.prune(planned, make.output)


bake_gpu_ami()
