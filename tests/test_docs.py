"""Tables in docs/ are true: named tests exist, environment variables are those of the sources."""

import inspect
import re
from pathlib import Path

import pytest
import torch

import fastrnn
from fastrnn.convert import registry

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGE = (ROOT / "docs" / "what_works_where.md").read_text()


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


def sources(*patterns: str) -> str:
    return "\n".join(path.read_text() for pattern in patterns for path in ROOT.glob(pattern))


def test_the_table_of_environment_variables_is_that_of_the_sources():
    page = (ROOT / "docs" / "environment.md").read_text()
    names = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    told = set(re.findall(r"`(\w+)`", " ".join(names)))
    python = sources("setup.py", "*/*.py", "fastrnn/*/*.py", "tests/*/*.py", "examples/*/*.py")
    native = sources("csrc/**/*.cpp", "csrc/**/*.h", "csrc/**/*.cu*")
    scripts = sources("Makefile", ".ci/*")
    read = set(re.findall(r"""["'](FASTRNN_[A-Z_]+)["']""", python))
    read |= set(re.findall(r'getenv\("(\w+)"\)', native))
    read |= set(re.findall(r"\bFASTRNN_[A-Z_]+", scripts))
    used = sources("fastrnn/**/*.py", "buildtools/*.py", "setup.py")
    read |= set(re.findall(r"""environ(?:\.get\(|\[)["'](\w+)["']""", used))
    assert len(read) > 10
    assert not read - told, "not in docs/environment.md"
    stale = [name for name in told if not re.search(rf"\b{name}\b", python + native + scripts)]
    assert not stale, "in docs/environment.md, and nowhere else"


PUBLIC = [
    *(
        getattr(fastrnn, name)
        for name in fastrnn.__all__
        if name not in ("__version__", "functional", "zoo")
    ),
    *(getattr(fastrnn.functional, name) for name in fastrnn.functional.__all__),
]
NO_TENSORS = (fastrnn.accelerate, fastrnn.restore, fastrnn.load_kernels, fastrnn.quantize)


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__name__)
def test_docstrings_name_shapes_arguments_and_errors(public):
    """As the house rules ask; `make docs-site` renders them."""
    is_layer = isinstance(public, type) and issubclass(public, torch.nn.Module)
    called = [public, public.forward] if is_layer else [public]
    text = "\n".join(inspect.getdoc(each) for each in called)
    assert re.search(r"\bRaises\b", text)
    assert public in NO_TENSORS or re.search(r"`\[([BNT]|L\*D), ", text), "no shape in backticks"
    arguments = inspect.signature(public).parameters
    if is_layer:  # the others are torch.nn's, and documented there
        theirs = {*inspect.signature(public.stands_for).parameters}
        theirs |= {*inspect.signature(torch.nn.RNNBase).parameters}
        arguments = [name for name in arguments if name not in theirs]
        arguments += [
            name for name in inspect.signature(public.forward).parameters if name != "self"
        ]
        assert "torch.nn" in text
    elif public is fastrnn.functional.Packing:
        arguments = []  # pack_lengths makes it
    assert [name for name in arguments if not re.search(rf"\b{name}\b", text)] == []


def test_the_index_names_every_page_and_links_lead_somewhere():
    pages = {page.name: page.read_text() for page in (ROOT / "docs").glob("*.md")}
    linked = {
        name: set(re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text)) for name, text in pages.items()
    }
    assert pages.keys() - linked["README.md"] == {"README.md"}
    broken = [
        (name, link)
        for name, links in linked.items()
        for link in links
        if not (ROOT / "docs" / link).exists()
    ]
    assert not broken


FENCE = re.compile(r"^```python\n(.*?)^```", re.S | re.M)
PROGRAMS = {
    page.relative_to(ROOT / "docs").as_posix(): FENCE.findall(page.read_text())
    for page in sorted((ROOT / "docs").rglob("*.md"))
}
# Kernels of cells that are not built in would be compiled; other tests do that.
COMPILES = ("adding_a_cell.md", "which_cell.md", "zoo/")
ELSEWHERE = "beyond_one_machine.md"  # two processes: test_distributed.py


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("page", [p for p, blocks in PROGRAMS.items() if blocks and p != ELSEWHERE])
def test_python_blocks_run(page, monkeypatch):
    """In order and in one namespace; what they register is forgotten."""
    monkeypatch.setattr(registry, "CHANGES", {})
    if page.startswith(COMPILES):
        monkeypatch.setenv("FASTRNN_BACKEND", "reference")
    namespace = {}
    for block in PROGRAMS[page]:
        exec(compile(block, page, "exec"), namespace)
    if page == "first_model.md":
        assert namespace["losses"][-1] < 0.02  # 1/6 for the mean


def test_every_cell_has_a_page_with_equations_a_drawing_and_an_example():
    pages = {}
    for name in PROGRAMS:
        if name.startswith("zoo/"):
            text = (ROOT / "docs" / name).read_text()
            kind = re.search(r"^`(?:zoo\.)?(\w+)`", text, re.M)[1]
            pages[kind] = text
            assert f"{kind}(" in PROGRAMS[name][0] and "```math\n" in text
            (drawing,) = re.findall(r"\]\(\.\./(images/cells/\w+\.svg)\)", text)
            assert (ROOT / "docs" / drawing).is_file()
    assert sorted(pages) == sorted(["FastRNN", "FastLSTM", "FastGRU", *fastrnn.zoo.__all__])
