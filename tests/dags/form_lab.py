"""Every DAG's form with the spec that it is made from, and texts that should do no harm in any field of any form."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import shardmill.specs
from shardmill.specs.value import Spec
from shardmill_airflow.forms import form_of

HOSTILE = (
    "$(touch /tmp/pwned)",
    "`id`",
    "x; rm -rf /",
    "a && b || c",
    "a | tee b > c < d",
    "'",
    '"; id; "',
    "x\ntouch y",
    "x\r\nBcc: all@example.com",
    "\x00",
    "a\x00b",
    "\x1b[2J",
    "{{ 7 * 7 }}",
    "{{ var.value.secret }}",
    "{% for x in y %}{% endfor %}",
    "{{ ti.xcom_push('spec_uri', 's3://theirs/spec.json') }}",
    "${HOME}",
    "$HOME",
    "${jndi:ldap://127.0.0.1/x}",
    "%(password)s",
    "%s%n",
    "-i",
    "--conf",
    "--conf spark.jars=s3://theirs/x.jar",
    "--py-files=s3://theirs/x.zip",
    "-rf",
    "../../etc/passwd",
    "s3://bucket/../other",
    "file:///data/../../etc/passwd",
    "s3://bucket/$(id)",
    "s3://bucket/x; rm -rf /",
    "s3://bucket/{{ 7 * 7 }}",
    "s3://bucket/x --conf spark.jars=s3://theirs/x.jar",
    "s3://bucket/x\n--conf",
    "s3://user:secret@bucket/x",
    "http://169.254.169.254/latest/meta-data",
    "spark.executor.memory=$(id)",
    "spark.executor.memory=8g\n--conf\nspark.jars=s3://theirs/x.jar",
    "spark.executor.memory=8g --jars x",
    "spark.rpc.message.maxSize='; id; '",
    "spark.jars=s3://theirs/x.jar",
    "Spark,$(id)",
    "m5.xlarge,m5.xlarge;id",
    "ami-0123456789abcdef0\n",
    "emr-7.13.0\n-x",
    "000000..000001; id",
    "all,$(id)",
    "os:system",
    "ann@example.com,$(id)@example.com",
    "ann@example.com\nBcc: eve@example.com",
    "\u202egnp.exe",
    "s3://bucket/\u202egnp.rat",
    "a\u200bb",
    "ｓ３://bucket/x",
    "s3:\u2215\u2215bucket",
    "𝓈ample",
    "<script>alert(1)</script>",
    "x" * 100_000,
    "s3://bucket/" + "x" * 100_000,
)


def specs() -> Iterator[type[Spec]]:
    """Give all specs that the project knows."""
    for module in pkgutil.iter_modules(shardmill.specs.__path__, "shardmill.specs."):
        importlib.import_module(module.name)
    open_ones: list[type[Spec]] = [Spec]
    while open_ones:
        spec = open_ones.pop()
        yield spec
        open_ones += spec.__subclasses__()


def forms(dags: Any) -> dict[str, type[Spec]]:
    """Give the spec behind each DAG's form."""
    wanted = {dag_id: list(dag.params) for dag_id, dag in dags.items() if dag.params}
    found: dict[str, type[Spec]] = {}
    for spec in specs():
        for dag_id, names in wanted.items():
            if set(names) <= set(spec.model_fields) and names == list(form_of(spec)):
                found[dag_id] = spec
    assert set(found) == set(wanted), "a form that is made from no spec"
    return found
