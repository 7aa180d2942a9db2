"""torch's private names: in one file, and what a torch without them still does."""

import re
from pathlib import Path

import pytest
from helpers import run_python

import fastrnn

PACKAGE = Path(fastrnn.__file__).parent
# torch._C, torch._guards …; `from torch._ops import OpOverload` is the type in a signature.
PRIVATE = re.compile(
    r"torch\.(?:\w+\.)*_(?!_)\w+|forward_ad\._\w+|super\(torch\.autograd\.Function"
)


def test_they_are_in_one_file():
    found = [
        f"{path.name}: {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        if path.name not in ("torch_private.py", "version.py")
        for line in path.read_text().splitlines()
        if PRIVATE.search(line) and "import OpOverload" not in line and "`" not in line
    ]
    assert found == []


WITHOUT = """
import importlib.util, sys, torch
spec = importlib.util.spec_from_file_location("fastrnn.torch_private", sys.argv[1])
source = open(sys.argv[1]).read()
assert "    return found\\n" in source
module = importlib.util.module_from_spec(spec)
sys.modules["fastrnn.torch_private"] = module
exec(source.replace("    return found\\n", "    return instead\\n"), module.__dict__)
import fastrnn
assert fastrnn.reference.torch_private is module
torch.manual_seed(0)
ours, theirs = fastrnn.FastLSTM(3, 5), torch.nn.LSTM(3, 5)
theirs.load_state_dict(ours.state_dict())
cell = fastrnn.FastGRUCell(3, 5)
x = torch.randn(4, 2, 3, requires_grad=True)

def gradients(layer):
    return torch.autograd.grad(layer(x)[0].square().sum(), [x, *layer.parameters()])

for a, b in zip(gradients(ours), gradients(theirs)):
    assert torch.allclose(a, b, atol=1e-5)
with torch.no_grad():
    assert torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-6)
with torch.autocast("cpu", torch.bfloat16):
    assert ours(x)[0].dtype == torch.bfloat16
cell(x[0]).sum().backward()
one = torch.func.grad(lambda v: ours(v)[0].square().sum())(x.detach())
assert torch.allclose(one, gradients(theirs)[0], atol=1e-5)
many = torch.func.vmap(lambda v: ours(v)[0])(torch.stack([x.detach()] * 2))
assert torch.allclose(many[1], theirs(x)[0], atol=1e-6)
twice = torch.autograd.grad(ours(x)[0].square().sum(), x, create_graph=True)[0]
twice.square().sum().backward()
assert x.grad.abs().sum() > 0
compiled = torch.compile(ours, backend="eager", fullgraph=True)
with torch.no_grad():
    assert torch.allclose(compiled(x)[0], theirs(x)[0], atol=1e-6)
try:
    compiled(x)[0].sum().backward()
except RuntimeError as error:
    assert "has no derivative with this torch" in str(error), error
else:
    raise AssertionError("gradients of a compiled graph were lost without a word")
print("right")
"""


@pytest.mark.filterwarnings("ignore")
def test_a_torch_without_any_of_them(tmp_path):
    run = run_python("-c", WITHOUT, str(PACKAGE / "torch_private.py"), cwd=tmp_path)
    assert run.stdout.strip().endswith("right"), run.stderr[-3000:]
