"""What the driver says of this rank's GPU around a timed epoch; nothing of it is asked within."""

from functools import cache
from pathlib import Path
from typing import Any

from bench.records import GPU

_REASONS = (
    "idle",
    "applications_clocks",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
    "display_clocks",
    "board_limit",
    "reliability",
)
"""Why clocks are low, by bit: https://docs.nvidia.com/deploy/nvml-api, nvmlClocksEventReasons."""


_DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Files of the drivers of NVIDIA's GPUs, of those under Windows' Linux, and of AMD's."""


def device_name() -> str:
    """The GPU's name as torch gives it, or cpu; torch is imported only where a driver is installed."""
    if not any(Path(file).exists() for file in _DRIVERS):
        return "cpu"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


class Watch:
    """Goes round a Timer, `with Watch() as watch, Timer() as timer:`; `gpu` is None where nothing can be asked."""

    gpu: GPU | None = None

    def __enter__(self) -> "Watch":
        self._before = _reading()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            self.gpu = _between(self._before, _reading())


def facts() -> dict[str, str | float | None]:
    """The driver, the power limit in W and the highest clocks in MHz, each None where it is not known."""
    device = _device()
    limit = device and device.ask("nvmlDeviceGetEnforcedPowerLimit")
    return {
        "driver": device and device.driver(),
        "watts": None if limit is None else limit / 1000,
        "max_sm": device and device.ask("nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_SM"),
        "max_memory": device and device.ask("nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_MEM"),
    }


class _Device:
    """The GPU of these CUDA properties as NVML knows it."""

    def __init__(self, nvml: Any, properties: Any):
        self.nvml = nvml
        # CUDA_VISIBLE_DEVICES renumbers CUDA's devices and not NVML's, so an index would name another one.
        try:
            self.handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}")
        except (AttributeError, nvml.NVMLError):
            bus = properties.pci_domain_id, properties.pci_bus_id, properties.pci_device_id
            self.handle = nvml.nvmlDeviceGetHandleByPciBusId("{:08X}:{:02X}:{:02X}.0".format(*bus))

    def ask(self, function: str, constant: str | None = None) -> int | None:
        try:
            arguments = (getattr(self.nvml, constant),) if constant else ()
            return getattr(self.nvml, function)(self.handle, *arguments)
        except (AttributeError, self.nvml.NVMLError):
            return None

    def driver(self) -> str | None:
        try:
            return self.nvml.nvmlSystemGetDriverVersion()
        except self.nvml.NVMLError:
            return None


@cache
def _device() -> _Device | None:
    # Who only reads records, which hold a GPU, need not wait for torch.
    import torch

    from crt import distributed

    if not torch.cuda.is_available():
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return _Device(pynvml, torch.cuda.get_device_properties(distributed.device()))
    except (AttributeError, pynvml.NVMLError):
        return None


def _reading() -> dict[str, int | None] | None:
    device = _device()
    if device is None:
        return None
    reasons = device.ask("nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:  # drivers before 535
        reasons = device.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    return {
        "sm": device.ask("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),
        "memory": device.ask("nvmlDeviceGetClockInfo", "NVML_CLOCK_MEM"),
        "celsius": device.ask("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),
        "reasons": reasons,
        "millijoules": device.ask("nvmlDeviceGetTotalEnergyConsumption"),
    }


def _between(before: dict[str, int | None], after: dict[str, int | None]) -> GPU:
    ends = {f"{key}_before": before[key] for key in ("sm", "memory", "celsius")}
    ends |= {f"{key}_after": after[key] for key in ("sm", "memory", "celsius")}
    seen = [end["reasons"] for end in (before, after) if end["reasons"] is not None]
    energy = before["millijoules"], after["millijoules"]
    return GPU(
        **ends,
        throttle=tuple(sorted({name for reasons in seen for name in _names(reasons)})) if seen else None,
        joules=None if None in energy else (energy[1] - energy[0]) / 1000,
    )


def _names(reasons: int) -> list[str]:
    """The names of the bits set, `bit_12` and the like for those that newer drivers may add."""
    named = [_REASONS[bit] if bit < len(_REASONS) else f"bit_{bit}" for bit in range(64) if reasons >> bit & 1]
    return [name for name in named if name != "idle"]
