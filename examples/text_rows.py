"""A text for a character model: read, numbered, and cut into rows that are read side by side."""

from __future__ import annotations

import math

import common
import torch


def read_text(path: str | None) -> str:
    """The text of a UTF-8 file, or of Python's own documentation."""
    if path is None:
        try:
            from pydoc_data.topics import topics
        except ImportError:
            common.fail("this Python comes without pydoc_data.topics: give a text with --text FILE")
        return "\n".join(topics[name] for name in sorted(topics))
    return common.read_text(path)


def as_rows(ids: torch.Tensor, rows: int) -> torch.Tensor:
    """One long text [N] as `rows` texts that run in parallel, time first: [N // rows, rows]."""
    return ids[: ids.numel() // rows * rows].view(rows, -1).t().contiguous()


def load_data(args, vocabulary: str | None = None):
    """Vocabulary, training rows and validation rows; the last part of the text validates."""
    text = read_text(args.text)
    name = args.text or "pydoc_data.topics"
    cut = int(len(text) * (1 - args.validation))
    train_need = args.batch * (args.window + 1)
    if cut < train_need or len(text) - cut < 2:
        common.fail(
            f"{name} is too short: {len(text):,} characters, and --batch {args.batch} --window "
            f"{args.window} need {math.ceil(train_need / (1 - args.validation)) + 2:,}"
        )
    if vocabulary is None:
        vocabulary = "".join(sorted(set(text)))
    elif not set(text) <= set(vocabulary):
        common.fail(f"{name} has characters that the checkpoint's model does not know")
    index = {character: i for i, character in enumerate(vocabulary)}
    ids = torch.tensor([index[character] for character in text])
    valid_rows = min(args.batch, (len(text) - cut) // 2)
    print(
        f"{name}: {len(text):,} characters, {len(vocabulary)} different, {len(text) - cut:,} kept"
    )
    return vocabulary, as_rows(ids[:cut], args.batch), as_rows(ids[cut:], valid_rows)


def check_prompt(prompt: str, vocabulary: str) -> None:
    """Says before a training, not after it, that the model cannot read the prompt."""
    unknown = sorted(set(prompt) - set(vocabulary))
    if unknown:
        common.fail(f"--prompt has characters that the model does not know: {unknown}")
