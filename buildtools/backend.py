"""PEP 517 backend: setuptools, plus the requirements that only this machine can tell.

pip's build isolation hides the packages of the environment. Naming torch in [build-system] would
make pip download another one (gigabytes, and another version) for each build; so
`toolchain.find_torch` looks where isolation took it away, and a torch is asked for only where there
is none.
"""

from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (all hooks that are not defined below)

from buildtools.toolchain import (
    find_compiler,
    find_ninja,
    find_torch,
    native_wanted,
    torch_requirement,
)


def get_requires_for_build_wheel(config_settings=None):
    """setuptools' own requirements and ours."""
    return _native_requirements() + build_meta.get_requires_for_build_wheel(config_settings)


def get_requires_for_build_editable(config_settings=None):
    """As for a wheel: an editable install builds the same library."""
    return _native_requirements() + build_meta.get_requires_for_build_editable(config_settings)


def _native_requirements() -> list[str]:
    if not native_wanted():
        return []
    find_compiler()  # fails here, before a torch is downloaded for nothing
    torch = [] if find_torch() else [torch_requirement(Path.cwd())]
    return torch if find_ninja() else [*torch, "ninja"]
