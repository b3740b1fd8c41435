"""Small wheels for tests, and the hashed lists that name them."""

from __future__ import annotations

import hashlib
import io
import zipfile


def make_wheel(name: str, version: str, module: str) -> bytes:
    """Make a wheel of one module, as pip takes it."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": module,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/top_level.txt": f"{name}\n",
    }
    record = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), content)
    return buffer.getvalue()


def wheel_name(name: str, version: str) -> str:
    return f"{name}-{version}-py3-none-any.whl"


def lock_of(wheels: dict[tuple[str, str], bytes]) -> str:
    """Write the hashed list that names some wheels by name and version."""
    lines = [
        f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(wheel).hexdigest()}\n"
        for (name, version), wheel in sorted(wheels.items())
    ]
    return "".join(lines)
