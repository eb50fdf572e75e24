"""Devices to estimate times for: peak figures of data sheets, and the share of the peak that training reaches."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

SHARE, MATRIX_SHARE = 0.2, 0.1
"""Share of its peak that a device reaches in training: in fp32, and on its matrix units (tensor cores).

Source: the operations counted here, divided by the times that papers print for a Titan V (5,120 cores at 1.455 GHz:
14.9 TFLOP/s; 110 TFLOP/s with tensor cores, according to NVIDIA's product page). The 12 fp32 times of Tables 4 and 15
of the CRT paper have a median of 21 % (6 to 37 %); the fp16 times of Tables 1 and 9 of the RRM paper have a median of
10 % (6 to 10 %). `tests/test_devices.py` computes both.
"""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A kind of device. `peaks` are TFLOP/s of dense matrix products (no sparsity) by precision."""

    name: str
    peaks: dict[str, float]
    source: str
    gpu: bool = True


TABLE = {
    device.name: device
    for device in (
        Device(
            name="cpu",
            gpu=False,
            peaks={"fp32": 0.2, "fp16": 0.0067},
            source="two cores at 3.1 GHz that do 32 operations a cycle (two AVX2 units of 8 floats, multiply and add);"
            " fp16: convolutions with their gradients in torch 2.15 on an AMD EPYC take 30 times as long as in fp32",
        ),
        Device(
            name="v100",
            peaks={"fp32": 15.7, "fp16": 125},
            source="NVIDIA V100 Tensor Core GPU data sheet, January 2020, SXM2",
        ),
        Device(
            name="a100",
            peaks={"fp32": 19.5, "tf32": 156, "bf16": 312, "fp16": 312},
            source="NVIDIA A100 Tensor Core GPU data sheet, https://www.nvidia.com/en-us/data-center/a100",
        ),
        Device(
            name="h100",
            peaks={"fp32": 67, "tf32": 494.7, "bf16": 989.4, "fp16": 989.4},
            source="NVIDIA H100 Tensor Core GPU Architecture, table of SXM5; https://www.nvidia.com/en-us/data-center/h100",
        ),
        Device(
            name="h200",
            peaks={"fp32": 67, "tf32": 494.5, "bf16": 989.5, "fp16": 989.5},
            source="NVIDIA H200 Tensor Core GPU data sheet, SXM, half of what it prints with sparsity",
        ),
        Device(
            name="rtx4090",
            peaks={"fp32": 82.6, "tf32": 82.6, "bf16": 165.2, "fp16": 165.2},
            source="NVIDIA Ada GPU Architecture, appendix A, products summed in fp32",
        ),
    )
}


def recognized(name: str) -> Device | None:
    """The device with this name in torch, such as `NVIDIA A100-SXM4-80GB`; None if `TABLE` has no such device."""
    words = re.split(r"[^a-z0-9]+", name.lower().replace("rtx 4090", "rtx4090"))
    # The laptop 4090 and the 4090 D are different chips.
    return None if {"laptop", "d"} & set(words) else next((TABLE[word] for word in words if word in TABLE), None)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Speed that estimates assume: from the figures of a device, or as a profile states it."""

    name: str
    """Name as in `TABLE`, in torch or in a profile."""
    device: Device
    """Device whose figures are used; for an unknown name, the most likely device."""
    stated: float | None = None
    """TFLOP/s of a rank: `tflops` of a profile."""

    @property
    def whose(self) -> str:
        """Unit of a sum of hours: `GPU` or `CPU rank`."""
        return "GPU" if self.device.gpu else "CPU rank"

    def flops(self, precision: str) -> float:
        """Operations per second of one rank."""
        if self.stated is not None:
            return self.stated * 1e12
        peak, share, _ = self._peak(precision)
        return peak * share * 1e12

    def _peak(self, precision: str) -> tuple[float, float, str]:
        """Peak, the share reached, and the precision used: fp32 for a precision that the device lacks."""
        peaks = self.device.peaks
        precision = precision if precision in peaks else "fp32"
        # A peak no higher than that of fp32 means that the device has no matrix units for this precision.
        return peaks[precision], MATRIX_SHARE if peaks[precision] > peaks["fp32"] else SHARE, precision

    def is_slow(self, precision: str) -> bool:
        """True if the device computes in this precision more slowly than in fp32."""
        return self.device.peaks.get(precision, math.inf) < self.device.peaks["fp32"]

    def words(self, precisions: Iterable[str]) -> str:
        """The assumption in words, for recipes with these precisions."""
        if self.stated is not None:
            return f"{self.name}: {self.stated:g} TFLOP/s, the profile's tflops"
        instead = "" if self._known else f" (not in bench/plan/devices.py; figures of {self.device.name})"
        figures = [
            f"{peak * share:.2g} TFLOP/s = {100 * share:g} % of {peak:g} peak ({precision})"
            for peak, share, precision in dict.fromkeys(map(self._peak, sorted(precisions)))
        ]
        return f"{self.name}{instead}: {'; '.join(figures)}"

    @property
    def _known(self) -> Device | None:
        return TABLE.get(self.name) or recognized(self.name)

    def is_of(self, recorded: str) -> bool:
        """True if a record's device, named as in torch, is this device."""
        return recognized(recorded) == self._known if self._known else recorded == self.name


def speed(name: str | None, gpu: bool = False, stated: float | None = None) -> Speed:
    """Speed of a device given by any of its names; an unknown device gets the figures of an A100 or a CPU."""
    likeliest = TABLE["a100" if gpu else "cpu"]
    name = name or ("profile" if stated else likeliest.name)
    return Speed(name=name, device=TABLE.get(name) or recognized(name) or likeliest, stated=stated)


def here() -> Speed:
    """Speed of this machine."""
    # Imported here, because the help of a command lists devices and must not import this.
    from bench.measure.gpu_telemetry import device_name

    name = device_name()
    return speed(name, gpu=name != "cpu")
