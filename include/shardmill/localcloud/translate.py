"""From what EMR and YARN take to what Spark standalone takes: the only place where the two meet.

Pure: URIs to fetch are listed, not fetched. Whatever is changed or left out is noted, and the notes go to the step's
``controller`` log. docs/local-vs-emr.md lists each rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shardmill.localcloud.step_timeout import split_timeout
from shardmill.localcloud.submit_arguments import RefusedStepError, SubmitArguments, read_submit_arguments

_S3 = ("s3", "s3a", "s3n")
EVENTS = "events"
"""The folder in a step's folder that Spark writes its event log to."""
_FILE_SETTINGS = {
    "spark.submit.pyFiles": "--py-files",
    "spark.files": "--files",
    "spark.archives": "--archives",
    "spark.jars": "--jars",
}
_DROPPED = {
    "spark.yarn.": "there is no YARN",
    "spark.executor.memoryOverhead": "containers of YARN have a size, processes here do not",
    "spark.driver.memoryOverhead": "containers of YARN have a size, processes here do not",
    "spark.executor.resource.": "there is no GPU",
    "spark.driver.resource.": "there is no GPU",
    "spark.task.resource.": "there is no GPU",
    "spark.rapids.": "there is no GPU",
    "spark.driver.cores": "the driver runs on this machine",
    "spark.eventLog.": "an event log is kept where spark.eventLog.enabled is true and spark.eventLog.dir is s3://…",
    "spark.history.": "there is no history server",
    "spark.local.dir": "scratch files lie in the folder of the cluster",
    "spark.driver.host": "everything listens on loopback",
    "spark.driver.bindAddress": "everything listens on loopback",
    "spark.authenticate": "YARN makes the secret that it needs",
    "spark.network.crypto.": "it needs spark.authenticate",
    "spark.shuffle.service.": "there is no external shuffle service",
    "spark.executorEnv.AWS_": "the local cluster names its own endpoint, keys and region",
    "spark.plugins": "plug-ins are not in the local Spark",
}
_PROTECTED = ("JAVA_HOME", "PATH", "HOME", "TMPDIR", "SHARDMILL_LOCAL_CLOUD", "PYTHONPATH")
_PROTECTED_PREFIXES = ("SPARK_", "AWS_", "HADOOP_", "YARN_", "LD_")
_PYTHON_NAMES = {"spark.pyspark.python": "PYSPARK_PYTHON", "spark.pyspark.driver.python": "PYSPARK_DRIVER_PYTHON"}
_MEMORY = re.compile(r"(\d+)([kmgt]?)b?", re.IGNORECASE)
_MIB = {"k": 1 / 1024, "m": 1.0, "": 1.0, "g": 1024.0, "t": 1024.0 * 1024.0}


@dataclass(frozen=True)
class LocalNodes:
    """What the standalone cluster has to offer."""

    master_url: str
    slots: int
    memory_mib: int
    python: str
    java_options: str = ""


@dataclass(frozen=True)
class Submission:
    """A spark-submit that runs on the standalone cluster."""

    argv: tuple[str, ...]
    """What follows the program ``spark-submit``."""
    exports: Mapping[str, str]
    """Environment of the driver, beside what every process of Spark gets."""
    downloads: Mapping[str, Path]
    """Where each URI must lie before the start."""
    notes: tuple[str, ...]
    timeout: tuple[str, ...] = ()
    """The ``timeout`` that the program runs under, with what belongs to it; empty for none."""
    event_log: str = ""
    """URI of the folder where the event log belongs; empty where none is asked for."""


def translate_step(
    arguments: Sequence[str], configurations: Sequence[Mapping[str, Any]], nodes: LocalNodes, folder: Path
) -> Submission:
    """Translate the arguments of ``command-runner.jar``.

    Args:
        arguments: ``spark-submit`` and what follows it, behind a ``timeout`` or not.
        configurations: the cluster's classifications.
        folder: where files of the step are to be put.

    Raises:
        RefusedStepError: the step could not run on EMR, or not on the local cluster.
    """
    timeout, command = split_timeout(arguments)
    program = command[0] if command else "nothing"
    if program == "s3-dist-cp":
        raise RefusedStepError(
            "s3-dist-cp: the local cluster has no HDFS to copy to or from: let the job read from s3:// here"
        )
    if program != "spark-submit":
        raise RefusedStepError(f"the local cluster runs spark-submit only, found {program!r} for command-runner.jar")
    asked = read_submit_arguments(command[1:])
    return replace(_Translation(asked, configurations, nodes, folder).submission(), timeout=timeout)


def _classified(configurations: Sequence[Mapping[str, Any]], name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in configurations:
        if one.get("Classification") == name:
            found |= one.get("Properties") or {}
    return found


class _Translation:
    def __init__(
        self, asked: SubmitArguments, configurations: Sequence[Mapping[str, Any]], nodes: LocalNodes, folder: Path
    ) -> None:
        self._asked = asked
        self._configurations = configurations
        self._nodes = nodes
        self._folder = folder
        self._notes: list[str] = []
        self._downloads: dict[str, Path] = {}
        self._event_settings: dict[str, str] = {}
        self._settings = {**_classified(configurations, "spark-defaults"), **asked.settings}

    def submission(self) -> Submission:
        self._note_classifications()
        exports = dict(self._exports())
        master = self._master()
        files = [part for setting, option in _FILE_SETTINGS.items() for part in self._file_option(setting, option)]
        self._python(exports)
        event_log = self._event_log()
        resources = self._resources()
        settings = {**self._kept(), **resources, **self._event_settings}
        argv = ["--master", master, "--deploy-mode", "client"]
        argv += [part for name, value in sorted(settings.items()) for part in ("--conf", f"{name}={value}")]
        argv += ["--class", self._asked.main_class] if self._asked.main_class else []
        script = self._local(self._asked.script, "the script")
        command = (*argv, *files, script, *self._asked.arguments)
        return Submission(command, exports, dict(self._downloads), tuple(self._notes), event_log=event_log)

    def _note(self, text: str) -> None:
        self._notes.append(text)

    def _note_classifications(self) -> None:
        for one in self._configurations:
            name = one.get("Classification", "")
            if name == "spark" and (one.get("Properties") or {}).get("maximizeResourceAllocation") == "true":
                self._note(
                    f"maximizeResourceAllocation: one executor of one core on each of {self._nodes.slots} workers"
                )
            elif name not in ("spark-defaults", "spark-env", "spark"):
                self._note(f"classification {name} is not applied: there is no YARN, Hadoop or Hive")

    def _exports(self) -> Iterator[tuple[str, str]]:
        for one in self._configurations:
            if one.get("Classification") == "spark-env":
                for name, value in _classified(one.get("Configurations") or (), "export").items():
                    if name in _PROTECTED or name.startswith(_PROTECTED_PREFIXES):
                        self._note(f"spark-env export {name} is not applied: it belongs to the local cluster")
                    else:
                        yield name, value

    def _master(self) -> str:
        master = self._settings.pop("spark.master", "yarn")
        if self._settings.pop("spark.submit.deployMode", "client") == "cluster":
            self._note("deploy mode cluster → client: standalone has no cluster mode for Python; stdout is the step's")
            for name in [name for name in self._settings if name.startswith("spark.yarn.appMasterEnv.")]:
                self._note(f"{name} is not applied: use a spark-env export")
        if master == "yarn":
            self._note(f"master yarn → {self._nodes.master_url}")
            return self._nodes.master_url
        if master.startswith("local"):
            return master
        raise RefusedStepError(f"expected --master yarn (or local[n]) as on EMR, found {master!r}")

    def _file_option(self, setting: str, option: str) -> list[str]:
        uris = [uri.strip() for uri in self._settings.pop(setting, "").split(",") if uri.strip()]
        if not uris:
            return []
        local = []
        for uri in uris:
            plain, hash_mark, alias = uri.partition("#")
            local.append(self._local(plain, option) + hash_mark + alias)
        return [option, ",".join(local)]

    def _local(self, uri: str, what: str) -> str:
        parts = urlsplit(uri)
        if parts.scheme not in _S3 or not parts.netloc or not parts.path.strip("/"):
            raise RefusedStepError(
                f"{what}: expected s3://bucket/key, found {uri!r}: EMR's nodes have no other files of ours"
            )
        if uri not in self._downloads:
            name = parts.path.rstrip("/").rpartition("/")[2]
            self._downloads[uri] = self._folder / "files" / str(len(self._downloads)) / name
        return str(self._downloads[uri])

    def _python(self, exports: dict[str, str]) -> None:
        named = False
        for setting, variable in _PYTHON_NAMES.items():
            value = exports.pop(variable, "")
            value = self._settings.get(setting, value)  # Spark takes the setting before the variable
            named = named or bool(value)
            self._settings[setting] = self._python_path(setting, value)
            executor = f"spark.executorEnv.{variable}"
            if executor in self._settings:
                self._settings[executor] = self._python_path(executor, self._settings[executor])
        if not named:
            self._note("no Python was named: on EMR 7 it would be 3.9: export PYSPARK_PYTHON by the class spark-env")

    def _python_path(self, name: str, value: str) -> str:
        if value.startswith("./") and "driver" not in name.lower():
            return value  # from an archive, unpacked beside the executor
        if value and value != self._nodes.python:
            self._note(f"{name} {value} → the cluster environment's Python 3.11")
        return self._nodes.python

    def _event_log(self) -> str:
        """Have Spark write its event log into the step's folder where it is wanted in S3; give the URI there."""
        uri = self._settings.get("spark.eventLog.dir", "")
        parts = urlsplit(uri)
        enabled = self._settings.get("spark.eventLog.enabled", "false").lower() == "true"
        if not enabled or parts.scheme not in _S3 or not parts.netloc:
            return ""
        asked = [name for name in self._settings if name.startswith("spark.eventLog.")]
        self._event_settings = {name: self._settings.pop(name) for name in asked}
        self._event_settings["spark.eventLog.dir"] = (self._folder / EVENTS).as_uri()
        self._note(f"spark.eventLog.dir {uri} → the step's folder; it is put there every few seconds and at the end")
        return f"s3://{parts.netloc}/{parts.path.strip('/')}".rstrip("/")

    def _resources(self) -> dict[str, str]:
        slots, memory = self._nodes.slots, self._nodes.memory_mib
        executors = self._count("spark.executor.instances")
        if executors is not None and executors > slots:
            self._note(f"{executors} executors → {slots}: the local cluster has {slots} slots")
        for name in ("spark.executor.cores", "spark.task.cpus"):
            if self._settings.pop(name, "1") != "1":
                self._note(f"{name} → 1: a slot is one core")
        chosen = {"spark.executor.cores": "1", "spark.task.cpus": "1", "spark.ui.port": "0"}
        chosen |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
        for name in ("spark.executor.memory", "spark.driver.memory"):
            asked = _mebibytes(name, self._settings.pop(name, f"{memory}m"))
            if asked > memory:
                self._note(f"{name} {asked} MiB → {memory} MiB, the setting of the local cluster")
            chosen[name] = f"{min(asked, memory)}m"
        options = self._settings.pop("spark.executor.extraJavaOptions", "")
        chosen["spark.executor.extraJavaOptions"] = f"{self._nodes.java_options} {options}".strip()
        wanted = min(executors or (2 if not self._dynamic() else 0), slots)
        if self._dynamic():
            # EMR turns it on by default, and Spark then refuses barrier stages: so does the local cluster.
            chosen["spark.dynamicAllocation.enabled"] = "true"
            chosen["spark.dynamicAllocation.shuffleTracking.enabled"] = "true"
            self._note("dynamic allocation is on, as EMR has it by default; Spark refuses barrier stages with it")
            chosen["spark.cores.max"] = str(slots)
            if executors:
                chosen["spark.dynamicAllocation.initialExecutors"] = str(wanted)
        else:
            chosen["spark.cores.max"] = str(wanted)
        return chosen

    def _dynamic(self) -> bool:
        return self._settings.get("spark.dynamicAllocation.enabled", "true").lower() == "true"

    def _count(self, name: str) -> int | None:
        value = self._settings.pop(name, None)
        if value is None:
            return None
        if not value.isdigit() or int(value) < 1:
            raise RefusedStepError(f"{name}: expected a number above 0, found {value!r}")
        return int(value)

    def _kept(self) -> dict[str, str]:
        kept = {}
        for name, value in self._settings.items():
            reason = next((why for prefix, why in _DROPPED.items() if name.startswith(prefix)), None)
            if reason is None:
                kept[name] = value
            else:
                self._note(f"{name} is not applied: {reason}")
        return kept


def _mebibytes(name: str, text: str) -> int:
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise RefusedStepError(f"{name}: expected a size such as 4g or 512m, found {text!r}")
    return max(1, int(int(match[1]) * _MIB[match[2].lower()]))
