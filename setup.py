"""The two things pyproject.toml cannot say: the native library, and how it is built."""

import shutil
import sys
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from buildtools import native  # noqa: E402
from buildtools.toolchain import BuildError, native_wanted  # noqa: E402

MIN_SETUPTOOLS = 77  # the first that reads `license = "Apache-2.0"`
NATIVE = native_wanted()

if int(setuptools.__version__.split(".")[0]) < MIN_SETUPTOOLS:
    raise BuildError(
        f"fastrnn: expected setuptools >= {MIN_SETUPTOOLS}, got {setuptools.__version__}:"
        " pip install -U setuptools, or leave out --no-build-isolation"
    )


class BuildLibrary(build_ext):
    """build_ext whose one extension is compiled by ninja."""

    def build_extensions(self):
        self.built = native.build(ROOT)
        for extension in self.extensions:
            native.install(self.built, Path(self.get_ext_fullpath(extension.name)))

    def copy_extensions_to_source(self):
        """For --inplace and editable installs."""
        native.install(self.built, ROOT / "fastrnn" / native.LIBRARY)


class BuildPython(build_py):
    """build_py from scratch: setuptools would pack what an earlier build left in build/lib.

    Adds what cells from Python and the C library are compiled from; an editable install finds
    csrc/.
    """

    def run(self):
        if self.editable_mode:
            return super().run()
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        for source in native.shipped(ROOT) if NATIVE else []:
            target = Path(self.build_lib, "fastrnn", source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / source, target)


class EditableWheel(editable_wheel):
    """editable_wheel that leaves no library of an earlier build beside a pure-Python install."""

    def run(self):
        if not NATIVE:
            (ROOT / "fastrnn" / native.LIBRARY).unlink(missing_ok=True)
        super().run()


setup(
    ext_modules=[Extension("fastrnn._C", [], py_limited_api=True)] if NATIVE else [],
    cmdclass={
        "build_ext": BuildLibrary,
        "build_py": BuildPython,
        "editable_wheel": EditableWheel,
    },
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if NATIVE else {},
)
