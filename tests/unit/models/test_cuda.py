"""The GPU that a process holds. The driver is a stand-in of C functions: no GPU is here."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from fyretoolkit.models.cuda import arena_limit, device_number, is_fatal, total_bytes

GIB = 1 << 30


@pytest.mark.parametrize(
    ("held", "visible", "number"),
    [
        ([], None, 0),
        (["2"], "2", 0),
        (["3"], "2,3", 1),
        (["1"], None, 1),
        (["1"], "", 1),
        (["0"], "GPU-5a", 0),
    ],
)
def test_the_number_of_the_gpu_that_ray_gave(held: list[str], visible: str | None, number: int) -> None:
    """Counted among those that the process sees."""
    assert device_number(held, visible) == number


@pytest.mark.parametrize(
    ("total", "num_gpus", "limit"),
    [
        (80 * GIB, 0.5, 40 * GIB - GIB // 2),
        (16 * GIB, 0.1, int(16 * GIB * 0.1) - GIB // 2),
        (4 * GIB, 0.1, int(4 * GIB * 0.1) // 2),
        (80 * GIB, 1, None),
        (80 * GIB, 4.0, None),
    ],
)
def test_the_arena_has_its_share_less_what_cuda_takes(total: int, num_gpus: float, limit: int | None) -> None:
    """Half a GiB, or half of a share that is smaller than one."""
    assert arena_limit(total, num_gpus) == limit


def driver(*, init: int = 0, device: int = 0, memory: int = 0) -> SimpleNamespace:
    """`libcuda` with two devices, of 16 and 24 GiB; its functions give these results."""

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint)
    def cu_init(_flags: int) -> int:
        return init

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.c_int)
    def cu_device_get(found: ctypes._Pointer[ctypes.c_int], ordinal: int) -> int:
        found[0] = 70 + ordinal
        return device

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_size_t), ctypes.c_int)
    def cu_device_total_mem(found: ctypes._Pointer[ctypes.c_size_t], handle: int) -> int:
        found[0] = {70: 16 * GIB, 71: 24 * GIB}[handle]
        return memory

    return SimpleNamespace(cuInit=cu_init, cuDeviceGet=cu_device_get, cuDeviceTotalMem_v2=cu_device_total_mem)


def test_the_driver_says_how_large_a_device_is() -> None:
    """By the number that CUDA gives it, from the library of that name."""
    asked: list[str] = []

    def load(name: str) -> SimpleNamespace:
        asked.append(name)
        return driver()

    assert [total_bytes(number, load) for number in (0, 1)] == [16 * GIB, 24 * GIB]
    assert asked == ["libcuda.so.1"] * 2


@pytest.mark.parametrize("failing", ["init", "device", "memory"])
def test_a_driver_that_fails_says_nothing(failing: str) -> None:
    """100: no device."""
    assert total_bytes(0, lambda _: driver(**{failing: 100})) is None


def test_a_machine_without_the_driver_says_nothing() -> None:
    """As this one, or with a library that cannot be loaded."""

    def load(_name: str) -> None:
        raise OSError("cannot open shared object file")

    assert total_bytes(0, load) is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("CUDA failure 719: unspecified launch failure ; GPU=0 ; file=cuda_call.cc", True),
        ("Non-zero status code. CUDA failure 700: an illegal memory access", True),
        ("CUDA failure 1: invalid argument ; GPU=1. CUDA failure 700: an illegal memory access", True),
        ("Transpose failed: CUDA failure 1: invalid argument", False),
        ("CUDA failure 2: out of memory", False),
        ("CUDNN failure 3000: CUDNN_STATUS_BAD_PARAM", False),
        ("indices element out of data bounds, idx=700", False),
    ],
)
def test_what_a_process_does_not_survive(message: str, expected: bool) -> None:
    """What a row may cause alone, it survives: else a caller could end replicas."""
    assert is_fatal(message) is expected
