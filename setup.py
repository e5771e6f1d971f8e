"""Compiles every module that has a `.pxd` twin; without a C compiler the same modules run interpreted.

```
pip install .                         compiled where that can be, interpreted otherwise, never refused for it
python setup.py build_ext --inplace   the same beside the sources of a checkout; `make build` runs it
```
Environment: `EBBMQ_PURE=1` compiles nothing. `EBBMQ_MUST_COMPILE=1` ends with an error where something cannot be
compiled, for those who would rather know. `EBBMQ_SANITIZE=1` builds below build/sanitized/, see `make sanitize`.
"""

import os
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))  # a build front end runs this file from elsewhere

from ipc.speed import HOT_PACKAGES, PURE_VARIABLE, hot_modules, is_pure  # noqa: E402

DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,  # types of the compiled twin stand in its .pxd alone
    "boundscheck": True,
    "wraparound": False,
    "initializedcheck": False,  # typed views are function arguments, never left unset
    "cdivision": False,  # a division by zero is an exception, and not the end of the process
    "infer_types": True,
    "freethreading_compatible": False,
    "show_performance_hints": False,
}
CYTHON_FILES = "build/cython"
SANITIZED_FILES = "build/sanitized"  # never where an installation would find them
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"]

IS_SANITIZED = bool(os.environ.get("EBBMQ_SANITIZE"))
MUST_COMPILE = bool(os.environ.get("EBBMQ_MUST_COMPILE"))


class BuildHotModules(build_ext):
    """Module by module: what cannot be compiled stays interpreted, and nothing compiled earlier stands in its way."""

    def run(self) -> None:
        self.uncompiled: list[str] = []
        beside_sources = self.inplace
        if beside_sources and IS_SANITIZED:
            raise SystemExit("ebbmq: sanitized modules do not belong beside their sources, see `make sanitize`")
        self.parallel = self.parallel or os.cpu_count()
        super().run()
        if beside_sources and not is_pure(os.environ):
            self.remove_leftovers()
        if self.uncompiled and MUST_COMPILE:
            raise SystemExit(f"ebbmq: not compiled, see above: {', '.join(self.uncompiled)}")

    def build_extensions(self) -> None:
        # The compiler of C may run several times at once, that of Cython not.
        self.extensions[:] = [extension for extension in self.extensions if self.translate(extension)]
        super().build_extensions()

    def translate(self, extension: Extension) -> bool:
        try:
            from Cython.Build import cythonize  # noqa: PLC0415 - without Cython there is still an installation
            from Cython.Compiler.Errors import CompileError  # noqa: PLC0415
        except ImportError as missing:
            self.leave_interpreted(extension, missing)
            return False
        translated = ROOT / CYTHON_FILES / Path(extension.sources[0]).with_suffix(".c")
        try:
            # Cython looks at the times of sources and of what they cimport, but not at those of its directives.
            is_old = translated.exists() and translated.stat().st_mtime < Path(__file__).stat().st_mtime
            (made,) = cythonize(
                [extension],
                compiler_directives=DIRECTIVES,
                build_dir=CYTHON_FILES,
                force=bool(self.force or is_old),
                quiet=True,
            )
        except CompileError as fault:
            self.leave_interpreted(extension, fault)
            return False
        extension.sources = made.sources
        return True

    def build_extension(self, extension: Extension) -> None:
        try:
            super().build_extension(extension)
        except Exception as fault:  # noqa: BLE001 - compilers fail in more ways than can be listed
            self.leave_interpreted(extension, fault)

    def leave_interpreted(self, extension: Extension, fault: Exception) -> None:
        self.uncompiled.append(extension.name)
        Path(self.build_lib, self.get_ext_filename(extension.name)).unlink(missing_ok=True)
        print(f"ebbmq: {extension.name} stays interpreted, it cannot be compiled: {fault}", file=sys.stderr)

    def remove_leftovers(self) -> None:
        """Delete compiled modules that this build did not make; an import would prefer them to their sources."""
        made = {Path(self.get_ext_filename(extension.name)) for extension in self.extensions}
        made -= {Path(self.get_ext_filename(name)) for name in self.uncompiled}
        suffix = self.get_ext_filename("")
        for package in HOT_PACKAGES:
            for found in Path(package).rglob(f"*{suffix}"):
                if found not in made:
                    found.unlink()


def extensions() -> list[Extension]:
    if is_pure(os.environ):
        print(f"ebbmq: hot modules stay interpreted, because {PURE_VARIABLE} is set", file=sys.stderr)
        return []
    return [
        Extension(
            name,
            [os.path.relpath(source, ROOT)],
            depends=["setup.py"],
            extra_compile_args=SANITIZERS if IS_SANITIZED else ["-O2"],
            extra_link_args=SANITIZERS[:1] if IS_SANITIZED else [],
            optional=True,
        )
        for name, source in hot_modules(str(ROOT))
    ]


def options() -> dict[str, dict[str, Any]]:
    return {"build": {"build_base": SANITIZED_FILES}} if IS_SANITIZED else {}


os.chdir(ROOT)
setup(ext_modules=extensions(), cmdclass={"build_ext": BuildHotModules}, options=options())
