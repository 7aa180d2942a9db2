"""examples/speech_digits.py: frames and sequences as told; learns, resumes, reads files."""

import importlib
import math
import wave
from pathlib import Path

import pytest
import torch

SMALL = "--hidden 16 --dropout 0 --batch 6 --digits 2 --lr 0.02 --evaluate-every 20"


def write_wave(path: Path, samples: torch.Tensor, rate: int = 8000, channels: int = 1) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", None))
        file.writeframes((samples * 8000).to(torch.int16).numpy().tobytes())


def tone(hertz: float, seconds: float = 0.2) -> torch.Tensor:
    return torch.sin(2 * math.pi * hertz * torch.arange(int(seconds * 8000)) / 8000)


@pytest.fixture
def program(empty_folder):
    """Three speakers; their digits, 1 to 3, are tones far apart."""
    Path("said").mkdir()
    for speaker, pitch in (("ada", 0.97), ("bob", 1.0), ("cy", 1.03)):
        for digit in (1, 2, 3):
            for take in range(2):
                name = f"said/{digit}_{speaker}_{take}.wav"
                write_wave(Path(name), tone(150 * 2.5**digit * pitch, 0.15 + 0.03 * take))
    return importlib.import_module("speech_digits")


def run(program, capsys, options):
    program.main(["--data", "said", *SMALL.split(), *options.split()])
    return capsys.readouterr().out


def saved(path="speech_digits.pt"):
    return torch.load(path, weights_only=True)


def test_either_layer_gives_the_same_curve(program, capsys):
    for layer in ("torch", "fastrnn"):
        options = f"--layer {layer} --checkpoint {layer}.pt --dropout 0.2 --evaluate-every 8"
        run(program, capsys, f"{options} --steps 24")
    curves = [torch.tensor(saved(f"{layer}.pt")["curve"]) for layer in ("fastrnn", "torch")]
    torch.testing.assert_close(*curves, rtol=1e-4, atol=1e-5)
    assert curves[0][-1, 1] < 0.9 * curves[0][0, 1]


def test_resume_after_ctrl_c_continues_exactly(program, capsys, monkeypatch):
    run(program, capsys, "--steps 30 --checkpoint whole.pt")
    step = program.Trainer.train_step

    def interrupted(trainer):
        if trainer.step == 13:
            raise KeyboardInterrupt
        return step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(program.Trainer, "train_step", interrupted)
        assert "interrupted at step 13" in run(program, capsys, "--steps 30 --checkpoint parts.pt")
    assert saved("parts.pt")["step"] == 13
    run(program, capsys, "--steps 30 --checkpoint parts.pt --resume")
    whole, parts = saved("whole.pt"), saved("parts.pt")
    assert parts["curve"] == whole["curve"]
    for name, weight in whole["model"].items():
        assert torch.equal(parts["model"][name], weight)


@pytest.mark.slow
def test_learns_and_reads_files_of_any_rate(program, capsys):
    out = run(program, capsys, "--hidden 48 --batch 12 --lr 0.005 --steps 500 --held-out bob")
    assert float(out.rpartition("word error rate ")[2].partition("%")[0]) < 20
    assert "heard alone, 100.0% right" in out
    three_one = torch.cat([tone(150 * 2.5**d) for d in (3, 1)])
    write_wave(Path("number.wav"), three_one)
    write_wave(Path("slow.wav"), three_one.repeat_interleave(2), rate=16000)
    for layer in ("torch", "fastrnn"):
        program.main(f"--read number.wav slow.wav --layer {layer}".split())
        assert capsys.readouterr().out.splitlines() == ["number.wav: 3 1", "slow.wav: 3 1"]


def test_nobody_held_out_is_learnt_from(program, capsys, monkeypatch):
    seen = []
    batch = program.training_batch
    monkeypatch.setattr(
        program,
        "training_batch",
        lambda speakers, *sizes: seen.append(speakers) or batch(speakers, *sizes),
    )
    out = run(program, capsys, "--steps 2 --held-out ada,cy --layer torch")
    assert seen and all(set(speakers) == {"bob"} for speakers in seen)
    assert "6 recordings of bob to learn, 12 of ada, cy held out" in out


def test_every_recording_is_tested_once(program):
    recordings = [(d, tone(100.0 * (d + 1))) for d in range(7)]
    x, counts, digits = program.test_batch(recordings, 3)
    assert sorted(sum(digits, [])) == list(range(7)) and [len(row) for row in digits] == [3, 3, 1]
    again, _, _ = program.test_batch(recordings, 3)
    assert torch.equal(x, again) and x.shape[:2] == (3, int(counts.max()))


def test_loss_is_that_of_all_the_ways_to_say_it(program):
    scores = torch.randn(4, 1, 11, dtype=torch.double).log_softmax(-1)
    ways = 0.0
    for way in torch.cartesian_prod(*[torch.tensor([0, 3, 6])] * 4).tolist():
        kept = [label for k, label in enumerate(way) if label and (k == 0 or way[k - 1] != label)]
        if kept == [3, 6]:
            ways += scores[range(4), 0, way].sum().exp().item()
    loss = program.loss_of(scores, torch.tensor([4]), [[2, 5]])
    assert loss.item() == pytest.approx(-math.log(ways))


def test_blanks_and_repeats_are_not_written(program):
    labels = torch.tensor([[0, 4, 4, 0, 4, 1, 9], [2, 0, 0, 5, 5, 5, 5]])
    scores = torch.nn.functional.one_hot(labels.T, 11).float()
    assert program.written(scores, torch.tensor([7, 3])) == [[3, 3, 0, 8], [1]]


@pytest.mark.parametrize(
    ("said", "heard", "wrong"),
    [([1, 2, 3], [1, 2, 3], 0), ([1, 2, 3], [1, 3], 1), ([1], [], 1), ([], [4, 4], 2),
     ([1, 2, 3, 4], [2, 3, 5, 4], 2), ([7, 7], [8], 2)],
)  # fmt: skip
def test_mistakes_are_the_fewest_changes(program, said, heard, wrong):
    assert program.mistakes(said, heard) == wrong


def test_a_tone_is_loudest_in_its_bin(program):
    sound = program.sound
    middles = sound.FILTERS[1.0].argmax(0) * sound.RATE / sound.TRANSFORM
    for hertz in (300.0, 1000.0, 3000.0):
        frames = sound.frames(torch.cat([torch.zeros(4000), tone(hertz)]))
        loudest = middles[frames[-10].argmax()]
        assert abs(loudest - hertz) < 0.1 * hertz + sound.RATE / sound.TRANSFORM
    assert torch.isfinite(sound.FILTERS[0.82]).all() and (sound.FILTERS[1.0].sum(0) > 0).all()


def test_draws_the_confusion(program, capsys):
    pytest.importorskip("matplotlib")
    run(program, capsys, "--steps 1 --plot matrix.png --layer torch")
    assert Path("matrix.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data nowhere", "--data nowhere: expected <digit>_<speaker>_<take>.wav"),
        ("--data broken", "cannot read broken/1_x_0.wav"),
        ("--data stereo", "stereo/1_x_0.wav: expected one channel of 16 bit"),
        ("--held-out zoe", "--held-out zoe: expected some of ada, bob, cy"),
        ("--held-out ada,bob,cy", "expected some of"),
        ("--read none.wav", "there is no checkpoint"),
        ("--lr 1e30 --steps 9", "the loss is no longer finite"),
    ],
)
def test_says_what_is_wrong(program, capsys, options, message):
    for folder in ("broken", "stereo"):
        Path(folder).mkdir()
    Path("broken/1_x_0.wav").write_bytes(b"RIFF")
    write_wave(Path("stereo/1_x_0.wav"), tone(200), channels=2)
    with pytest.raises(SystemExit) as caught:
        run(program, capsys, f"--layer torch {options}")
    assert message in str(caught.value)


def test_a_folder_is_needed(program, capsys):
    with pytest.raises(SystemExit):
        program.main([])
    assert "--data FOLDER: a folder of recordings is needed" in capsys.readouterr().err
