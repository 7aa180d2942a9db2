"""examples/streaming.py: frames look back only, targets lie where told; learns, listens, times."""

import importlib
import re
from pathlib import Path

import pytest
import torch
from test_speech_digits import tone, write_wave


@pytest.fixture
def program(empty_folder):
    """Two speakers; their digits, 1 to 3, are tones far apart."""
    Path("said").mkdir()
    for speaker, pitch in (("ada", 0.98), ("bob", 1.0)):
        for digit in (1, 2, 3):
            for take in range(2):
                name = f"said/{digit}_{speaker}_{take}.wav"
                write_wave(Path(name), tone(150 * 2.5**digit * pitch, 0.2 + 0.03 * take))
    return importlib.import_module("streaming")


def times(out: str) -> list[tuple[float, ...]]:
    """p50, p99, p99.9 and the real-time factor, of the model and of all of a frame."""
    words = r"p50 ([\d.]+) us, p99 ([\d.]+) us, p99.9 ([\d.]+) us, real-time factor ([\d.]+)"
    return [tuple(map(float, row)) for row in re.findall(words, out)]


def reports(program, capsys, options: str) -> list[tuple[str, str]]:
    """(seconds, digit) of each, in a 3 between silences."""
    silence = torch.zeros(4000)
    write_wave(Path("call.wav"), torch.cat([silence, tone(150 * 2.5**3, 0.2), silence]))
    program.main(f"--listen call.wav {options}".split())
    out = capsys.readouterr().out
    assert len(times(out)) == 2
    return re.findall(r"^ *([\d.]+) s  (\d)$", out, re.M)


def test_trains_and_times_every_frame(program, capsys, monkeypatch):
    options = "--hidden 12 --batch 3 --digits 2 --lr 0.02 --steps 4 --plot times.png"
    program.main(["--data", "said", *options.split()])
    out = capsys.readouterr().out
    assert "6 digits of bob" in out and len(times(out)) == 2
    for half, most, nearly, share in times(out):
        assert 0 < half <= most <= nearly and 0 < share
    assert Path("times.png").stat().st_size > 1000
    monkeypatch.setattr(program, "SURE", 0.0)  # so that a model that knows little reports, too
    ours, theirs = (reports(program, capsys, f"--layer {layer}") for layer in ("fastrnn", "torch"))
    assert ours == theirs


@pytest.mark.slow
def test_learns_and_reports_in_time(program, capsys):
    program.main("--data said --hidden 32 --batch 12 --lr 0.01 --steps 300".split())
    assert float(re.search(r"minutes: ([\d.]+)% right", capsys.readouterr().out)[1]) > 80
    for options in ("", "--layer torch", "--weights bfloat16"):
        ((at, digit),) = reports(program, capsys, options)
        assert digit == "3" and 0.5 < float(at) < 1.1


def test_frames_end_where_they_are_heard(program):
    """What comes later changes no frame; targets begin before a recording's end, not after it."""
    torch.manual_seed(0)
    samples, ((digit, first, end),) = program.scene([(4, torch.ones(2000))], 0.0, None)
    windows = samples.unfold(0, 200, 80)
    loud = windows.abs().sum(-1) > 0
    assert not loud[: first - 2].any() and loud[first : end - 1].all()
    classes = program.targets([(digit, first, end)], len(windows))
    assert (classes[first : end - 6] == -1).all() and (classes[end - 6 : end + 6] == 5).all()
    assert (classes[:first] == 0).all() and (classes[end + 6 :] == 0).all()


def test_a_digit_is_named_right_wrong_or_not_at_all(program):
    said = [(1, 10, 30), (2, 100, 130), (3, 300, 330)]
    assert program.judge(said, [(28, 1), (140, 7), (500, 3)]) == (1, 1, 1)
    assert program.judge(said, [(15, 4), (31, 1)]) == (1, 0, 0)  # corrected in time
