"""Readings of this rank's GPU from its driver, before and after a timed epoch and never within it."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

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
"""Reasons for low clocks, by bit: https://docs.nvidia.com/deploy/nvml-api, nvmlClocksEventReasons."""

_DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Files of the GPU drivers of NVIDIA, of Windows' subsystem for Linux, and of AMD."""


def device_name() -> str:
    """Name of the GPU from torch, or cpu; torch is imported only where a driver is installed."""
    if not any(Path(file).exists() for file in _DRIVERS):
        return "cpu"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


class Watch:
    """Reads the GPU before and after a Timer: `with Watch() as watch, Timer() as timer:`.

    `gpu` is None where the driver cannot be read.
    """

    gpu: GPU | None = None

    def __enter__(self) -> "Watch":
        self._before = _reading()
        return self

    def __exit__(self, *_: object) -> None:
        after = _reading()
        if self._before is not None and after is not None:
            self.gpu = _between(self._before, after)


class Facts(TypedDict):
    """The GPU's driver, power limit in W and highest clocks in MHz, each None where it is unknown."""

    driver: str | None
    watts: float | None
    max_sm: int | None
    max_memory: int | None


def facts() -> Facts:
    """Constant facts about this rank's GPU."""
    device = _device()
    if device is None:
        return {"driver": None, "watts": None, "max_sm": None, "max_memory": None}
    limit = device.ask("nvmlDeviceGetEnforcedPowerLimit")
    return {
        "driver": device.driver(),
        "watts": None if limit is None else limit / 1000,
        "max_sm": device.ask("nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_SM"),
        "max_memory": device.ask("nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_MEM"),
    }


class _Device:
    """NVML's handle of the GPU, or of the part of one (MIG), that has these CUDA properties.

    ValueError for a part that the driver does not find by its UUID.
    """

    def __init__(self, nvml: Any, properties: Any):
        self.nvml = nvml
        # CUDA_VISIBLE_DEVICES renumbers CUDA's devices but not NVML's, so an index could select another GPU.
        for kind in ("GPU", "MIG"):
            try:
                self.handle = nvml.nvmlDeviceGetHandleByUUID(f"{kind}-{properties.uuid}")
                return
            except (AttributeError, nvml.NVMLError):
                pass
        bus = properties.pci_domain_id, properties.pci_bus_id, properties.pci_device_id
        self.handle = nvml.nvmlDeviceGetHandleByPciBusId("{:08X}:{:02X}:{:02X}.0".format(*bus))
        if self._is_divided():
            raise ValueError("the GPU is divided into parts, whose clocks and energy are not those of the whole GPU")

    def _is_divided(self) -> bool:
        try:
            current, _ = self.nvml.nvmlDeviceGetMigMode(self.handle)
        except (AttributeError, self.nvml.NVMLError):
            return False
        return bool(current)

    def ask(self, function: str, constant: str | None = None) -> int | None:
        try:
            arguments = (getattr(self.nvml, constant),) if constant else ()
            return getattr(self.nvml, function)(self.handle, *arguments)
        except (AttributeError, self.nvml.NVMLError):
            return None

    def processes(self) -> int | None:
        """Number of processes that compute on the GPU."""
        try:
            return len(self.nvml.nvmlDeviceGetComputeRunningProcesses(self.handle))
        except (AttributeError, self.nvml.NVMLError):
            return None

    def driver(self) -> str | None:
        try:
            return self.nvml.nvmlSystemGetDriverVersion()
        except self.nvml.NVMLError:
            return None


@cache
def _device() -> _Device | None:
    # Imported here, so that reading records, whose schema has a GPU, does not load torch.
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
    except (AttributeError, ValueError, pynvml.NVMLError):
        return None


class _Reading(NamedTuple):
    """Clocks in MHz, temperature in °C, throttle reasons (bits), energy in mJ, and processes; None without a value."""

    sm: int | None
    memory: int | None
    celsius: int | None
    reasons: int | None
    millijoules: int | None
    processes: int | None = None


def _reading() -> _Reading | None:
    device = _device()
    if device is None:
        return None
    reasons = device.ask("nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:  # drivers before 535
        reasons = device.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    return _Reading(
        sm=device.ask("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),
        memory=device.ask("nvmlDeviceGetClockInfo", "NVML_CLOCK_MEM"),
        celsius=device.ask("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),
        reasons=reasons,
        millijoules=device.ask("nvmlDeviceGetTotalEnergyConsumption"),
        processes=device.processes(),
    )


def _between(before: _Reading, after: _Reading) -> GPU:
    masks = [reasons for reasons in (before.reasons, after.reasons) if reasons is not None]
    first, last = before.millijoules, after.millijoules
    return GPU(
        sm_before=before.sm,
        sm_after=after.sm,
        memory_before=before.memory,
        memory_after=after.memory,
        celsius_before=before.celsius,
        celsius_after=after.celsius,
        throttle=tuple(sorted({name for mask in masks for name in _names(mask)})) if masks else None,
        joules=None if first is None or last is None else (last - first) / 1000,
        processes=max((n for n in (before.processes, after.processes) if n is not None), default=None),
    )


def _names(mask: int) -> list[str]:
    """Names of the bits that are set, except idle; a bit that newer drivers add is named like `bit_12`."""
    names = [_REASONS[bit] if bit < len(_REASONS) else f"bit_{bit}" for bit in range(64) if mask >> bit & 1]
    return [name for name in names if name != "idle"]
