"""The README's Python runs, and its commands name what is there."""

import re

import source_tree

README = (source_tree.ROOT / "README.md").read_text()


def test_python_blocks_run():
    """In order and in one namespace, as a reader would type them."""
    namespace = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["output"].shape == (4, 50, 128)


def test_set_up_is_two_commands():
    commands = [line for line in README.splitlines() if line.startswith("pip install")]
    assert len(commands) == 2 and all("-c constraints.txt" in command for command in commands)
    assert commands[0].endswith("python examples/char_lm.py") and "pytest" in commands[1]


def test_named_files_exist():
    named = re.findall(r"\]\(([\w./]+)\)|python ([\w/]+\.py)", README)
    names = {first or second for first, second in named}
    assert names and all((source_tree.ROOT / name).exists() for name in names), names
