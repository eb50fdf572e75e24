"""Devices that times are estimated for: peak figures from data sheets, and the share of them that training reaches."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

SHARE, MATRIX_SHARE = 0.2, 0.1
"""Share of its peak that a device reaches in training: of fp32, and of what its matrix units (tensor cores) do.

Source: the times that papers print, over the operations counted here, on a Titan V (5,120 cores at 1.455 GHz: 14.9
TFLOP/s; 110 with tensor cores, by NVIDIA's page of it). The 12 times of Tables 4 and 15 of the CRT paper, fp32, have a
median of 21 % (6 to 37 %); those of Tables 1 and 9 of the RRM paper in fp16 a median of 10 % (6 to 10 %).
`tests/test_devices.py` computes both.
"""


@dataclass(frozen=True, kw_only=True)
class Device:
    """One kind of device; `peaks` are dense products (no sparsity) in TFLOP/s, by precision."""

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
            peaks={"fp32": 0.2},
            source="two cores at 3.1 GHz that do 32 operations a cycle (two AVX2 units of 8 floats, multiply and add)",
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
    """The device that torch calls so, as `NVIDIA A100-SXM4-80GB`; None for one that has no row."""
    words = re.split(r"[^a-z0-9]+", name.lower().replace("rtx 4090", "rtx4090"))
    # A laptop's 4090 and the 4090 D are other chips.
    return None if {"laptop", "d"} & set(words) else next((TABLE[word] for word in words if word in TABLE), None)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The assumption that estimates rest on: the figures of a device, or the one that a profile states."""

    name: str
    """As a table row, torch or a profile has it."""
    device: Device
    """Whose figures are taken: where there are none of the device so named, those of the likeliest."""
    stated: float | None = None
    """TFLOP/s of a rank, as a profile's `tflops` has them."""

    @property
    def whose(self) -> str:
        """The first word of a sum of hours."""
        return "GPU" if self.device.gpu else "CPU rank"

    def flops(self, precision: str) -> float:
        """Operations a second of one rank."""
        if self.stated is not None:
            return self.stated * 1e12
        peak, share, _ = self._peak(precision)
        return peak * share * 1e12

    def _peak(self, precision: str) -> tuple[float, float, str]:
        """Peak, share of it, and precision; one that the device has no units for is computed as fp32."""
        peaks = self.device.peaks
        precision = precision if precision in peaks else "fp32"
        # A figure no higher than that of fp32 has no units of its own behind it.
        return peaks[precision], MATRIX_SHARE if peaks[precision] > peaks["fp32"] else SHARE, precision

    def words(self, precisions: Iterable[str]) -> str:
        """The assumption in words, for recipes of these precisions."""
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
        """True where a record names this device, as torch calls it."""
        return recognized(recorded) == self._known if self._known else recorded == self.name


def speed(name: str | None, gpu: bool = False, stated: float | None = None) -> Speed:
    """The assumption for a device by any of its names; without figures of it, those of an A100 or of a CPU."""
    likeliest = TABLE["a100" if gpu else "cpu"]
    name = name or ("profile" if stated else likeliest.name)
    return Speed(name=name, device=TABLE.get(name) or recognized(name) or likeliest, stated=stated)


def here() -> Speed:
    """The assumption for this machine."""
    # The command line lists devices in its help, which needs none of what this imports.
    from bench.measure.gpu_telemetry import device_name

    name = device_name()
    return speed(name, gpu=name != "cpu")
