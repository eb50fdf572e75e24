"""Queries of the GPU's driver, against a fake driver whose devices answer all, some or none of them."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from bench.measure import gpu_telemetry
from bench.measure.gpu_telemetry import Watch, facts
from bench.records import GPU

UUID = "5c6e1a2b-0000-1111-2222-333344445555"
NOTHING = {"driver": None, "watts": None, "max_sm": None, "max_memory": None}


class Unsupported(Exception):
    """NVML's error for a query that the device does not support."""


class Driver(ModuleType):
    """A pynvml of one GPU, whose answers are numbers or lists of them, taken in turn."""

    NVMLError = Unsupported
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, **answers):
        super().__init__("pynvml")
        self.answers, self.calls = answers, []

    def __getattr__(self, name):
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def query(*arguments):
            self.calls.append((name, *arguments))
            key = name if name in self.answers else (name, *arguments[1:])
            answer = self.answers.get(key)
            if isinstance(answer, list):
                answer = answer.pop(0)
            if answer is None:
                raise Unsupported(name)
            return answer

        return query

    def also(self, **answers):
        self.answers |= answers
        return self


def full() -> Driver:
    driver = Driver(
        nvmlInit="",
        nvmlDeviceGetHandleByUUID="uuid",
        nvmlDeviceGetHandleByPciBusId="bus",
        nvmlSystemGetDriverVersion="570.12",
        nvmlDeviceGetEnforcedPowerLimit=250_500,
        nvmlDeviceGetCurrentClocksEventReasons=[0x1, 0x44],
        nvmlDeviceGetTemperature=[40, 71],
        nvmlDeviceGetTotalEnergyConsumption=[1_000_000, 1_012_500],
        nvmlDeviceGetComputeRunningProcesses=[["own"], ["own", "another"]],
    )
    driver.answers |= {
        ("nvmlDeviceGetMaxClockInfo", 1): 1980,
        ("nvmlDeviceGetMaxClockInfo", 2): 2619,
        ("nvmlDeviceGetClockInfo", 1): [345, 1755],
        ("nvmlDeviceGetClockInfo", 2): [1593, 2619],
    }
    return driver


@pytest.fixture(autouse=True)
def forget():
    gpu_telemetry._device.cache_clear()
    yield
    gpu_telemetry._device.cache_clear()


@pytest.fixture
def plug(monkeypatch):
    """Puts a driver, or none, and a CUDA device in their places."""

    def plug(driver: ModuleType | None, **properties):
        known = {"uuid": UUID, "pci_domain_id": 1, "pci_bus_id": 0x5E, "pci_device_id": 0} | properties
        known = {key: value for key, value in known.items() if value is not None}
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(**known))
        monkeypatch.setitem(sys.modules, "pynvml", driver)
        return driver

    return plug


def watched() -> GPU | None:
    with Watch() as watch:
        pass
    return watch.gpu


def test_all_of_it(plug):
    plug(full())
    assert facts() == {"driver": "570.12", "watts": 250.5, "max_sm": 1980, "max_memory": 2619}
    found = watched()
    assert found == GPU(
        sm_before=345,
        sm_after=1755,
        memory_before=1593,
        memory_after=2619,
        celsius_before=40,
        celsius_after=71,
        throttle=("hw_thermal_slowdown", "sw_power_cap"),
        joules=12.5,
        processes=2,
    )
    assert GPU.model_validate_json(found.model_dump_json()) == found


def test_the_same_is_asked_before_and_after(plug):
    driver = plug(full())
    facts()
    driver.calls.clear()
    with Watch():
        driver.calls.append("epoch")
    middle = driver.calls.index("epoch")
    assert driver.calls[:middle] == driver.calls[middle + 1 :] != []


def test_the_device_is_found_by_uuid(plug):
    driver = plug(full())
    facts()
    assert ("nvmlDeviceGetHandleByUUID", f"GPU-{UUID}") in driver.calls
    assert ("nvmlDeviceGetEnforcedPowerLimit", "uuid") in driver.calls


@pytest.mark.parametrize("lack", ["property", "answer"])
def test_without_uuid_it_is_found_by_bus(plug, lack):
    if lack == "property":
        driver = plug(full(), uuid=None)
    else:
        driver = plug(full().also(nvmlDeviceGetHandleByUUID=None))
    facts()
    assert ("nvmlDeviceGetHandleByPciBusId", "00000001:5E:00.0") in driver.calls
    assert ("nvmlDeviceGetEnforcedPowerLimit", "bus") in driver.calls


class Divided(Driver):
    """A driver of a GPU that is divided into parts; `known` is how it names the part, or None for a part unknown."""

    def __init__(self, known: str | None):
        super().__init__(nvmlInit="", nvmlDeviceGetHandleByPciBusId="whole")
        self.answers |= {"nvmlDeviceGetTotalEnergyConsumption": [1, 2], "nvmlSystemGetDriverVersion": "570.12"}
        self.answers["nvmlDeviceGetMigMode"] = [(1, 1)]
        self.known = known

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        if name != self.known:
            raise Unsupported(name)
        return "part"


def test_a_part_of_a_gpu_is_found_by_its_uuid(plug):
    driver = plug(Divided(f"MIG-{UUID}"))
    assert facts() == NOTHING | {"driver": "570.12"}
    assert ("nvmlDeviceGetEnforcedPowerLimit", "part") in driver.calls
    assert not any(name == "nvmlDeviceGetHandleByPciBusId" for name, *_ in driver.calls)


def test_the_whole_gpu_does_not_answer_for_a_part(plug):
    driver = plug(Divided(None))
    assert facts() == NOTHING and watched() is None
    assert not any(name == "nvmlDeviceGetTotalEnergyConsumption" for name, *_ in driver.calls)


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("nvmlDeviceGetTotalEnergyConsumption", {"joules"}),
        ("nvmlDeviceGetComputeRunningProcesses", {"processes"}),
        ("nvmlDeviceGetTemperature", {"celsius_before", "celsius_after"}),
        ("nvmlDeviceGetCurrentClocksEventReasons", {"throttle"}),
        (("nvmlDeviceGetClockInfo", 1), {"sm_before", "sm_after"}),
        (("nvmlDeviceGetClockInfo", 2), {"memory_before", "memory_after"}),
    ],
)
def test_what_a_device_does_not_support_is_none(plug, name, lost):
    driver = plug(full())
    driver.answers[name] = None
    assert {key for key, value in watched() if value is None} == lost


def test_half_an_answer(plug):
    some = {"nvmlDeviceGetTotalEnergyConsumption": [1, None], "nvmlDeviceGetCurrentClocksEventReasons": [None, 0x1]}
    plug(full().also(**some))
    found = watched()
    assert found.joules is None and found.throttle == ()


def test_older_drivers_say_throttle_reasons(plug):
    driver = full().also(nvmlDeviceGetCurrentClocksEventReasons=None)
    plug(driver.also(nvmlDeviceGetCurrentClocksThrottleReasons=[0x1, 0x8 | 1 << 12]))
    assert watched().throttle == ("bit_12", "hw_slowdown")


def test_a_device_that_says_nothing(plug):
    plug(Driver(nvmlInit="", nvmlDeviceGetHandleByUUID="uuid"))
    assert facts() == NOTHING and watched() == GPU()


@pytest.mark.parametrize("driver", [None, Driver(), Driver(nvmlInit="")], ids=["no package", "no driver", "no device"])
def test_no_nvml(plug, driver):
    plug(driver)
    assert facts() == NOTHING and watched() is None


def test_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert facts() == NOTHING and watched() is None


def test_a_failed_epoch_is_not_hidden(plug):
    plug(full())
    with pytest.raises(ZeroDivisionError), Watch():
        raise ZeroDivisionError
