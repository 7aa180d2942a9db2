"""The command line of the benchmark suite: messages, resume, interruption."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("pandas")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

from benchmarks.__main__ import main
from benchmarks.measure import records

ROOT = Path(__file__).parent.parent
TINY = ["--quick", "--threads", "1", "--peers", "torch.nn", "--no-memory", "--only", "stream"]


def refused(capsys, *arguments) -> str:
    """The message of a command that must end with status 2, in one line and without a traceback."""
    with pytest.raises(SystemExit) as end:
        main([str(a) for a in arguments])
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cells", "lstm,qrnn"], "cell must be one of rnn_tanh, "),
        (["--modes", "dreaming"], "mode must be one of inference, training, stream"),
        (["--peers", "tensorflow"], "--peers knows eager loop, "),
        (["--threads", "0"], "--threads must be from 1 to "),
        (["--threads", "some"], "--threads takes numbers or 'all'"),
        (["--only", "B7777"], "no case of the quick preset is left"),
        (["--cells", "gru", "--only", "lstm"], "no case of the quick preset is left"),
        (["--budget", "-3"], "must be a number of minutes above 0"),
        (["--preset", "everything"], "invalid choice: 'everything'"),
        (["--sped"], "unrecognized arguments: --sped"),
    ],
)
def test_bad_options_and_empty_selections(capsys, tmp_path, options, message):
    assert message in refused(capsys, "--quick", "--out", tmp_path, *options)


def test_no_cuda_device_is_said(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    message = refused(capsys, "--quick", "--device", "cuda", "--out", tmp_path)
    assert "this torch sees no CUDA device" in message


def test_unwritable_out(capsys, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written" in refused(capsys, *TINY, "--out", tmp_path / "file" / "sub")


def test_results_are_not_overwritten(capsys, tmp_path):
    records.Sink(tmp_path / "results.csv")
    assert "--resume goes on with it" in refused(capsys, *TINY, "--out", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "it has no column 'schema'"),
        ("schema,cell\n99,lstm\n", "has schema 99, this suite reads schema 1"),
        ("schema,cell\n1,lstm\n", "lacks the columns"),
        ("", "cannot read"),
    ],
)
def test_foreign_result_files(capsys, tmp_path, text, message):
    path = tmp_path / "results.csv"
    path.write_text(text)
    assert message in refused(capsys, "report", path)
    assert message in refused(capsys, *TINY, "--out", tmp_path, "--resume")


def test_report_of_nothing(capsys, tmp_path):
    assert "cannot read" in refused(capsys, "report", tmp_path / "absent.csv")
    records.Sink(tmp_path / "empty.csv")
    assert "no timed case yet" in refused(capsys, "report", tmp_path / "empty.csv")


def test_compare_with_an_unknown_revision(capsys):
    assert "is not a revision" in refused(capsys, "compare", "no-such-revision")


def test_dry_run_says_how_long_and_names_the_cases(capsys, tmp_path):
    assert main([*TINY, "--dry-run", "--out", str(tmp_path / "none")]) == 0
    said = capsys.readouterr().out
    assert "3 cases, 1 contestants, 1 thread(s)" in said and "in all about" in said
    assert "lstm-stream-B1-T1-I48-H48" in said and not (tmp_path / "none").exists()


def test_resume_measures_only_what_is_left(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "commit", lambda: "abc")
    out = ["--out", str(tmp_path)]
    assert main([*TINY, *out, "--cells", "lstm"]) == 0
    first = records.read(tmp_path / "results.csv")
    assert first["cell"].tolist() == ["lstm"] and (tmp_path / "results.json").exists()
    assert main([*TINY, *out, "--cells", "lstm,gru", "--resume"]) == 0
    both = records.read(tmp_path / "results.csv")
    assert both["cell"].tolist() == ["lstm", "gru"] and both["p50"][0] == first["p50"][0]
    capsys.readouterr()
    text = (tmp_path / "results.csv").read_text()
    (tmp_path / "results.csv").write_text(text.replace(both["machine"][0], "another machine"))
    assert "has machine another machine" in refused(capsys, *TINY, *out, "--resume")
    (tmp_path / "results.csv").write_text(text)
    monkeypatch.setattr(records, "commit", lambda: "def+")
    assert "has commit abc, this run has def+" in refused(capsys, *TINY, *out, "--resume")


def measuring(folder):
    """The command in a session of its own, once it has measured something."""
    command = ["--preset", "full", "--threads", "1", "--peers", "torch.nn", "--no-memory"]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *command, "--out", str(folder)],
        cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a shell's background jobs, and all that they start, ignore the interrupt
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    results, deadline = folder / "results.csv", time.monotonic() + 60
    while not (results.exists() and len(results.read_text().splitlines()) > 2):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    return process


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured(tmp_path):
    process = measuring(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    said, complaints = process.communicate(timeout=60)
    assert process.returncode == 130, complaints
    assert "Traceback" not in complaints and "--resume goes on" in said
    assert len(records.read(tmp_path / "results.csv")) >= 2 and (tmp_path / "report.md").exists()


@pytest.mark.slow
def test_a_terminated_run_leaves_nothing_running(tmp_path):
    process = measuring(tmp_path)
    process.terminate()
    process.communicate(timeout=60)  # until nothing has its output open
    assert process.returncode == 128 + signal.SIGTERM
    deadline = time.monotonic() + 10
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.1)
