"""Lends the compiled form of `ipc.wire.raw` to Python, which else exists only inlined into the modules that use it.

The module that lends is written from what the twin declares, and compiled as the hot modules are.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from tests.speed.twins import Function, parameters_in

ROOT: Final = Path(__file__).parents[2]
TWIN: Final = ROOT / "ipc" / "wire" / "raw.pxd"

_INLINE = re.compile(r"^cdef inline ([\w ]*?)(\w+)\(([^)]*)\)[^:\n]*:", re.MULTILINE)
_BUILD: Final = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
sanitizers = {sanitizers!r}
probe = Extension("probe", ["probe.pyx"], extra_compile_args=["-O1", *sanitizers], extra_link_args=sanitizers[:1])
setup(
    script_args=["--quiet", "build_ext", "--inplace"],
    ext_modules=cythonize([probe], include_path=[{root!r}], compiler_directives={directives!r}, quiet=True),
)
"""
_DIRECTIVES: Final = {"language_level": 3, "boundscheck": True, "wraparound": False}
_SANITIZERS: Final = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]


def build(directory: Path) -> ModuleType:
    """Compile the probe below `directory` and import it."""
    (directory / "probe.pyx").write_text("\n".join(_source()))
    sanitizers = _SANITIZERS if os.environ.get("EBBMQ_SANITIZE") else []
    build = _BUILD.format(sanitizers=sanitizers, root=str(ROOT), directives=_DIRECTIVES)
    # The compiler itself is not what is to be watched.
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "PYTHONMALLOC")}
    subprocess.run(
        [sys.executable, "-c", build], cwd=directory, env=environment | {"PYTHONPATH": str(ROOT)}, check=True
    )
    (built,) = directory.glob("probe.*.so")
    spec = importlib.util.spec_from_file_location("probe", built)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lent() -> list[tuple[str, str, str]]:
    """Result type, name and parameters of each function that may be asked for."""
    return [
        (result.strip(), name, parameters)
        for result, name, parameters in _INLINE.findall(TWIN.read_text())
        if not name.startswith("_")
    ]


def functions(probe: ModuleType, interpreted: ModuleType) -> list[Function]:
    return [
        Function(name, getattr(probe, name), getattr(interpreted, name), tuple(parameters_in(parameters)))
        for _result, name, parameters in lent()
    ]


def _source() -> list[str]:
    lines = ["from cpython cimport array", "from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t"]
    lines.append("cimport ipc.wire.raw as raw")
    for _result, name, parameters in lent():
        names = ", ".join(parameter for parameter, _kind in parameters_in(parameters))
        lines += [f"def {name}({parameters}):", f"    return raw.{name}({names})"]
    return lines
