"""Read the arguments of ``spark-submit`` the way Spark does: options, then the script, then the script's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CONF_OF_OPTION = {
    "--num-executors": "spark.executor.instances",
    "--executor-cores": "spark.executor.cores",
    "--executor-memory": "spark.executor.memory",
    "--driver-memory": "spark.driver.memory",
    "--driver-cores": "spark.driver.cores",
    "--driver-java-options": "spark.driver.extraJavaOptions",
    "--driver-class-path": "spark.driver.extraClassPath",
    "--driver-library-path": "spark.driver.extraLibraryPath",
    "--name": "spark.app.name",
    "--queue": "spark.yarn.queue",
    "--master": "spark.master",
    "--deploy-mode": "spark.submit.deployMode",
    "--jars": "spark.jars",
    "--files": "spark.files",
    "--archives": "spark.archives",
    "--py-files": "spark.submit.pyFiles",
}
"""Options that are another spelling of a setting; where both are given Spark takes the option."""

_FLAGS = ("--verbose", "-v")
_CONF = ("--conf", "-c")
_UNSUPPORTED = {
    "--packages": "there is no package repository",
    "--repositories": "there is no package repository",
    "--exclude-packages": "there is no package repository",
    "--properties-file": "it would lie on the node: use a spark-defaults classification or --conf",
    "--proxy-user": "there is one user",
    "--principal": "there is no Kerberos",
    "--keytab": "there is no Kerberos",
    "--kill": "a step submits a job",
    "--status": "a step submits a job",
    "--version": "a step submits a job",
    "--total-executor-cores": "YARN does not know it: use --num-executors and --executor-cores",
    "--supervise": "YARN does not know it",
}


class RefusedStepError(ValueError):
    """The step cannot run, here or on EMR; the message says why."""


@dataclass(frozen=True)
class SubmitArguments:
    """What was asked of spark-submit."""

    settings: dict[str, str]
    """``spark.*`` settings, of ``--conf`` and of the options that are another spelling of one."""
    main_class: str
    script: str
    arguments: tuple[str, ...]


def read_submit_arguments(argv: Sequence[str]) -> SubmitArguments:
    """Read what follows ``spark-submit``. Raises RefusedStepError."""
    conf: dict[str, str] = {}
    options: dict[str, str] = {}
    main_class = ""
    rest = list(argv)
    while rest and rest[0].startswith("-"):
        option, value = _next_option(rest)
        if option == "--class":
            main_class = value
        elif option in _CONF:
            name, equals, setting = value.partition("=")
            if not equals or not name.startswith("spark."):
                raise RefusedStepError(f"spark-submit: expected --conf spark.name=value, found {value!r}")
            conf[name] = setting
        elif option not in _FLAGS:
            options[CONF_OF_OPTION[option]] = value
    if not rest:
        raise RefusedStepError("spark-submit: the script is missing, e.g. s3://bucket/code/job.py")
    return SubmitArguments({**conf, **options}, main_class, rest[0], tuple(rest[1:]))


def _next_option(rest: list[str]) -> tuple[str, str]:
    """Take an option and its value off the front of the arguments."""
    option, separator, value = rest.pop(0).partition("=")
    if option in _FLAGS and not separator:
        return option, ""
    if option in _UNSUPPORTED:
        raise RefusedStepError(f"the local cluster does not take {option}: {_UNSUPPORTED[option]}")
    if option not in CONF_OF_OPTION and option not in _CONF and option != "--class":
        raise RefusedStepError(f"spark-submit does not know the option {option!r}")
    if not separator:
        if not rest:
            raise RefusedStepError(f"spark-submit: a value must follow {option}")
        value = rest.pop(0)
    return option, value
