"""Which errors of a stage another try cannot mend, and which say that a shard is unfit."""

from __future__ import annotations


def hopeless_errors() -> tuple[type[Exception], ...]:
    """List the errors of a stage that another try cannot mend: the request or the data is what is wrong."""
    from shardmill.adapters.extractors import ExtractorError
    from shardmill.adapters.sandbox import SandboxError
    from shardmill.adapters.store import ChangedObjectError
    from shardmill.adapters.video.avx import UnfitCpuError
    from shardmill.core.planning import BadRequestError
    from shardmill.core.rejects import TooManyRejectsError
    from shardmill.core.tar_header import DamagedTarError
    from shardmill.jobs.split import EmptyShardError

    request = BadRequestError, ExtractorError
    shard = ChangedObjectError, DamagedTarError, EmptyShardError, TooManyRejectsError
    return *request, *shard, SandboxError, UnfitCpuError


def unfit_errors() -> tuple[type[Exception], ...]:
    """List the errors by which a shard itself is found unfit: neither the machine nor a service is what is wrong."""
    from shardmill.adapters.store import DamagedObjectError
    from shardmill.core.rejects import ReconcileError, RejectsMayPassError, TooManyRejectsError
    from shardmill.core.tar_header import DamagedTarError
    from shardmill.jobs.split import EmptyShardError

    rejects = TooManyRejectsError, RejectsMayPassError
    return DamagedTarError, DamagedObjectError, EmptyShardError, ReconcileError, *rejects
