"""Which GPUs compiled CUDA kernels serve, on pretended ones, and where "auto" goes else."""

import pytest
import torch

from fastrnn import backends, ops
from fastrnn.gpu import architectures
from fastrnn.gpu.layer import float32_products, multiply_of


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that GPUs of these capabilities are here."""

    def pretend(*capabilities):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capabilities[index])
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU number {index}")

    return pretend


@pytest.mark.parametrize(
    "arch, yes, no",
    [
        ("80", [(8, 0), (8, 6), (8, 9)], [(7, 5), (9, 0), (12, 0)]),
        ("86", [(8, 6), (8, 9)], [(8, 0), (9, 0)]),
        ("90a", [(9, 0)], [(8, 9), (10, 0)]),
        ("100f", [(10, 0), (10, 3)], [(9, 0), (12, 0)]),
        ("90+PTX", [(9, 0), (10, 0), (12, 1)], [(7, 5), (8, 9)]),
        ("90a+PTX", [(9, 0)], [(10, 0)]),
    ],
)
def test_code_runs_where_nvidia_says(arch, yes, no):
    assert all(architectures.runs_on(arch, capability) for capability in yes)
    assert not any(architectures.runs_on(arch, capability) for capability in no)


def test_one_gpu_too_old_is_a_refusal_that_names_it(gpus):
    gpus((8, 0), (9, 0))
    assert architectures.refusal(["80", "90"]) is None
    gpus((9, 0), (7, 5))
    why = architectures.refusal(["80", "90", "90+PTX"])
    assert why.endswith("built for 80, 90, 90+PTX, not for GPU 1 (GPU number 1, sm_75)")
    gpus()
    assert architectures.refusal(["80"]) is None


@pytest.mark.skipif(not ops.NATIVE_BUILT, reason="without the native library")
def test_auto_goes_on_to_triton_where_no_kernel_was_built_for_the_gpu(gpus, monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setitem(ops.BUILD_INFO, "cuda_archs", ["80"])
    for capability, name in ((8, 0), "cuda"), ((9, 0), "triton"):
        gpus(capability)
        backends._choose_cached.cache_clear()
        chosen, reason = backends.choose("lstm", "cuda", torch.float32)
        assert chosen.name == name
        assert ("not cuda: " in reason and "sm_90" in reason) == (name == "triton")
    backends._choose_cached.cache_clear()


def test_float32_products_are_as_cudnn_rounds_them():
    for allowed, word in (True, "tf32"), (False, "ieee"):
        torch.backends.cudnn.allow_tf32 = allowed
        assert multiply_of(torch.float32) == word
        (line,) = float32_products(torch.float32)
        assert f"float32 products: {word} from step to step" in line and "ieee over whole" in line
    torch.backends.cuda.matmul.allow_tf32 = True
    assert multiply_of(torch.float32) == "ieee"
    assert "tf32 over whole" in float32_products(torch.float32)[0]
    assert multiply_of(torch.bfloat16) == "bfloat16" and not float32_products(torch.bfloat16)
