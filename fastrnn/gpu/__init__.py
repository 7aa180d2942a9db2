"""What the GPU backends share, and the CUDA engine's side in Python.

layer   one call as its kernels see it: sizes, weights by direction, the rows of ragged steps
host    forward and backward of a layer: whole-sequence GEMMs around a scan
scan    the scan that is `fastrnn::scan_forward` and `fastrnn::scan_backward`
engines which of the CUDA engines serves a layer, and why

A backend is a `host.Scan`: Triton's is in `fastrnn.triton.engine`.
"""
