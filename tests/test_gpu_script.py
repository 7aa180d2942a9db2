""".ci/gpu, which no machine without a GPU can run: its stages, with a Python that only pretends."""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from buildtools import native

ROOT = Path(__file__).resolve().parents[1]
STAGES = [
    "device", "build", "report", "engines", "memcheck", "racecheck", "clusters", "layers",
    "triton", "bench",
]  # fmt: skip
# Writes down what it is called with; fails, or takes too long, where FAIL or SLOW is in that.
PRETENDER = """#!{python}
import os, sys, time
called = " ".join(sys.argv[1:])
with open(os.environ["CALLS"], "a") as log:
    print(os.environ.get("FASTRNN_TEST_DEVICE", ""), called, file=log)
if os.environ.get("SLOW", "?") in called:
    time.sleep(60)
sys.exit(os.environ.get("FAIL", "?") in called)
"""


@pytest.fixture
def gpu_script(tmp_path):
    def run(*stages, **environment):
        python = tmp_path / "python"
        for name in ("python", "compute-sanitizer"):
            (tmp_path / name).write_text(PRETENDER.format(python=sys.executable))
            (tmp_path / name).chmod(0o755)
        changed = dict(PYTHON=str(python), OUT=str(tmp_path / "out"), CALLS=str(tmp_path / "calls"))
        changed["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
        (tmp_path / "calls").write_text("")
        clean = {k: v for k, v in os.environ.items() if not k.startswith("FASTRNN_")}
        done = subprocess.run(
            [ROOT / ".ci/gpu", *stages], env=clean | changed | environment, capture_output=True,
            text=True,
        )  # fmt: skip
        verdicts = dict(
            (line.split()[0], line.split(" s  ")[1])
            for line in (tmp_path / "out/stages.txt").read_text().splitlines()
        )
        return done.returncode, verdicts, (tmp_path / "calls").read_text()

    return run


def test_all_stages_in_order(gpu_script):
    status, verdicts, calls = gpu_script()
    assert status == 0 and list(verdicts) == STAGES and set(verdicts.values()) == {"passed"}
    assert calls.index("native.install") < calls.index("cuda -m pytest")
    assert "kernel_substring=scan_ --error-exitcode 9 --tool racecheck" in calls
    assert "-m benchmarks --preset gpu --device cuda" in calls


def test_few_files_for_the_caller(gpu_script, tmp_path):
    """One archive of everything beside those that are read first; what lay there stays."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.log").write_text("mine")
    gpu_script("device", "engines", "layers")
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"mine.log", "stages.txt", "engines.log", "gpu.tar.gz"}
    with tarfile.open(tmp_path / "out/gpu.tar.gz") as archive:
        packed = {Path(name).name for name in archive.getnames()}
    assert packed >= {"stages.txt", "device.log", "engines.log", "layers.log"}


def test_the_build_is_the_libraries_own(monkeypatch, tmp_path):
    """The stage's few lines, with a build that only pretends: the script needs no setuptools."""
    lines = re.search(r"^build='(.*?)'$", (ROOT / ".ci/gpu").read_text(), re.M | re.S)[1]
    built = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(native, "build", lambda root: root / "built.so")
    monkeypatch.setattr(native, "install", lambda *paths: built.extend(paths))
    exec(lines, {})
    assert built == [tmp_path / "built.so", tmp_path / "fastrnn" / native.LIBRARY]


def test_a_failing_stage_does_not_stop_the_later_ones(gpu_script):
    status, verdicts, _ = gpu_script(FAIL="test_cuda_gpu")
    assert status == 1 and list(verdicts) == STAGES
    assert verdicts.pop("engines") == "failed, status 1"
    assert set(verdicts.values()) == {"passed"}


def test_only_some_stages(gpu_script):
    status, verdicts, _ = gpu_script("build", "bench")
    assert status == 0 and list(verdicts) == ["build", "bench"]


def test_a_stage_that_hangs_is_ended(gpu_script, tmp_path):
    text = (ROOT / ".ci/gpu").read_text()
    assert text.count("stage build 190 ") == 1
    hurried = tmp_path / "tree/.ci/gpu"
    hurried.parent.mkdir(parents=True)
    hurried.write_text(text.replace("stage build 190 ", "stage build 1 "))
    hurried.chmod(0o755)
    environment = dict(os.environ, PYTHON=str(tmp_path / "python"), SLOW="native.install")
    gpu_script("device")  # leaves the pretender
    environment |= dict(OUT=str(tmp_path / "out"), CALLS=str(tmp_path / "calls"))
    done = subprocess.run([hurried, "build", "report"], env=environment, capture_output=True)
    told = (tmp_path / "out/stages.txt").read_text()
    assert done.returncode == 1 and "out of time" in told and "report" in told


def test_files_named_in_the_script_exist():
    words = (ROOT / ".ci/gpu").read_text().replace("\\\n", " ").split()
    files = [word for word in words if word.startswith("tests/")]
    assert len(files) >= 7 and all((ROOT / file).exists() for file in files)


def test_each_part_keeps_to_ten_minutes():
    """Also where every stage has to be killed, ten seconds after its limit."""
    text = (ROOT / ".ci/gpu").read_text()
    limits = {name: int(s) for name, s in re.findall(r"^stage (\w+) (\d+)", text, re.M)}
    parts = re.findall(r"^#   \.ci/gpu  ?((?:\w+ )*\w+)(?:  |$)", text, re.M)
    assert list(limits) == STAGES and len(parts) == 3
    assert sorted(" ".join(parts).split()) == sorted(STAGES)
    for part in parts:
        assert sum(limits[name] + 10 for name in part.split()) <= 600
