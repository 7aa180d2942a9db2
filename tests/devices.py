"""The two GPUs that tests and checks are for where there is none."""

from fastrnn.gpu.engines import Limits

A100 = Limits(sms=108, arch=80, shared=166_912)
H100 = Limits(sms=132, arch=90, shared=232_448)
BY_ARCH = {device.arch: device for device in (A100, H100)}
