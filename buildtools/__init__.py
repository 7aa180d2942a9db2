"""Builds the native library `fastrnn/_C.abi3.so`, for setup.py and pip; not used at run time.

Why not `torch.utils.cpp_extension`: it imports torch, which pip's build isolation hides; it knows
one set of flags per extension, while `csrc/cpu/isa/` is compiled once per instruction set; and its
`CUDAExtension` fails where `nvcc` on PATH is a wrapper script, beside a CPU-only torch, and with
neither a GPU nor `TORCH_CUDA_ARCH_LIST`.

backend    PEP 517 hooks: what pip must install before a build (torch only where there is none)
toolchain  finds torch, the C++ compiler and ninja
cuda       finds nvcc, chooses the GPU architectures
native     which source is compiled how often and with which flags
simulator  the CUDA sources once more, for a CPU: the tests' library
ninja      writes build.ninja and runs it
"""
