from __future__ import annotations

import io
import shutil
import zipfile

from shardmill.adapters.code_archive import script_uris, ship_code, ship_scripts
from shardmill.core.emr_request import node_scripts


def test_what_nodes_run_at_boot_lies_where_the_request_says(lake):
    shipped = ship_scripts(lake)
    assert shipped == script_uris(lake.uri)
    assert set(shipped) == set(node_scripts("2026-11-21T06:00:00+00:00", gpus=True))
    assert lake.head("spark-events/.keep"), "Spark does not start where the folder of event logs is missing"
    for name, uri in shipped.items():
        assert uri.endswith(f"/{name}")
        assert lake.get(uri.removeprefix(f"{lake.uri}/")).startswith(b"#!/bin/bash\n")


def test_scripts_are_named_by_their_content_and_shipped_once(lake, monkeypatch, tmp_path):
    from shardmill.adapters import code_archive

    before = ship_scripts(lake)
    assert ship_scripts(lake) == before
    shutil.copytree(code_archive._NODE_SCRIPTS, tmp_path / "scripts")
    (tmp_path / "scripts" / "deadline.sh").write_text("#!/bin/bash\nexit 0\n")
    monkeypatch.setattr(code_archive, "_NODE_SCRIPTS", tmp_path / "scripts")
    assert ship_scripts(lake)["deadline.sh"] != before["deadline.sh"]
    assert lake.head(before["deadline.sh"].removeprefix(f"{lake.uri}/")), "clusters that are up still name the old one"


def test_the_archive_holds_the_package_without_what_only_a_laptop_needs(lake):
    package, script = ship_code(lake)
    content = lake.get(package.removeprefix(f"{lake.uri}/"))
    names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert "shardmill/jobs/train/__init__.py" in names
    assert not [name for name in names if name.split("/")[1] in ("laptop", "localcloud", "templates", "node_scripts")]
    assert lake.get(script.removeprefix(f"{lake.uri}/")).startswith(b"import sys")
