"""The table of docs/what_works_where.md names tests that exist."""

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = (HERE.parent / "docs" / "what_works_where.md").read_text()


def rows() -> list[str]:
    return [line for line in PAGE.splitlines() if line.startswith("| ")][1:]


def test_every_row_names_its_proof():
    assert len(rows()) > 40
    for row in rows():
        assert re.search(r"`test_\w+\.py", row), f"no test in the row: {row}"


def test_the_named_tests_exist():
    for row in rows():
        source = ""
        for name in re.findall(r"`([\w:.]*(?:test_\w+\.py|::test_)[\w:]*)`", row):
            file, _, test = name.partition("::")
            if file:
                source = (HERE / file).read_text()
            assert not test or f"def {test}(" in source, f"{name} does not exist"
