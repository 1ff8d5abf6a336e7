"""On which processors the emitted C is measured: a row each, as data.

A row of HOSTS runs on this machine and is timed. A row of EMULATED runs under QEMU, where its instructions are counted.
To add a processor, add a row: nothing else asks for names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["EMULATED", "HOSTS", "Emulated", "Host"]

_CPU_FLAGS = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Host:
    """This machine, as a compiler is told to see it.

    cpu     for pefslc's --cpu, if this version has that option
    limits  the instructions of c_limits.c that could do the work; the fastest of them that is there is 100 %
    narrow  the same for weights and activations of 6 bits or fewer, where a saturating sum can be proven harmless
    needs   a flag of /proc/cpuinfo without which the row does not run; "" for none
    threads of pefslc's --threads, by OpenMP; with two or more, times are those of a clock on the wall
    """

    name: str
    cpu: str
    compiler: str
    flags: tuple[str, ...]
    limits: tuple[str, ...]
    narrow: tuple[str, ...]
    needs: str = ""
    threads: int = 1

    @property
    def lacks(self) -> str:
        """What this machine has not, but the row needs; "" where nothing is missing."""
        if self.needs and not (_CPU_FLAGS.is_file() and self.needs in _CPU_FLAGS.read_text().split()):
            return self.needs
        return "" if self.threads <= (os.cpu_count() or 1) else f"{self.threads} cores"


@dataclass(frozen=True, slots=True)
class Emulated:
    """A processor under QEMU.

    tools     the prefix of gcc, nm and size
    flags     of the compiler, for the network and its caller
    link      more flags and files, for the program; FOLDER stands for that of the emitted files, PREFIX for their name
    emulator  the command; the plugin and the program go behind it
    kernel    how the program is given to the emulator
    libc      whether the compiler has a C library
    """

    name: str
    cpu: str
    tools: str
    flags: tuple[str, ...]
    link: tuple[str, ...]
    emulator: tuple[str, ...]
    kernel: tuple[str, ...] = ()
    libc: bool = True


_O3 = ("-std=c99", "-O3")
_SSE2 = ("pmaddwd xmm",)
_AVX2 = ("vpmaddwd ymm",)
_AVX2_NARROW = ("vpmaddubsw ymm", *_AVX2)
_AMX = ("tdpbusd tiles",)
_NATIVE = ("vpdpbusd zmm", "vpdpbusd ymm", "vpmaddwd zmm", *_AVX2, *_SSE2)
_NATIVE_NARROW = (*_NATIVE, *_AVX2_NARROW)
_NATIVE_FLAGS = (*_O3, "-march=native")
_AVX2_FLAGS = (*_O3, "-march=x86-64-v3")
_PORTABLE = "-DPEFSLC_PORTABLE"
_OPENMP = "-fopenmp"

HOSTS = (
    Host("native, gcc", "x86-64-v4", "gcc", _NATIVE_FLAGS, _NATIVE, _NATIVE_NARROW),
    Host("native, clang", "x86-64-v4", "clang", _NATIVE_FLAGS, _NATIVE, _NATIVE_NARROW),
    Host("native, gcc, portable", "generic", "gcc", (*_NATIVE_FLAGS, _PORTABLE), _NATIVE, _NATIVE_NARROW),
    Host("AMX, gcc", "x86-64-amx", "gcc", _NATIVE_FLAGS, _AMX, _AMX, "amx_int8"),
    Host("native, gcc, 2 threads", "x86-64-v4", "gcc", (*_NATIVE_FLAGS, _OPENMP), _NATIVE, _NATIVE_NARROW, threads=2),
    Host(
        "native, gcc, portable, 2 threads", "generic", "gcc", (*_NATIVE_FLAGS, _PORTABLE, _OPENMP), _NATIVE,
        _NATIVE_NARROW, threads=2,
    ),
    Host("AVX2, gcc", "x86-64-v3", "gcc", _AVX2_FLAGS, _AVX2, _AVX2_NARROW, "avx2"),
    Host("AVX2, clang", "x86-64-v3", "clang", _AVX2_FLAGS, _AVX2, _AVX2_NARROW, "avx2"),
    Host("x86-64, gcc", "x86-64", "gcc", _O3, _SSE2, _SSE2),
    Host("x86-64, clang", "x86-64", "clang", _O3, _SSE2, _SSE2),
)  # fmt: skip


_MPS2 = {"FLASH_START": "0", "FLASH_SIZE": "4M", "RAM_START": "0x20000000", "RAM_SIZE": "2M"}
_MPS3 = {"FLASH_START": "0x10000000", "FLASH_SIZE": "512K", "RAM_START": "0x30000000", "RAM_SIZE": "512K"}


def _cortex_m(
    name: str, core: str, level: str, machine: str, cpu: str, memory: dict[str, str] = _MPS2, floats: str = "soft"
) -> Emulated:
    """A Cortex-M with newlib; start and linker script are those of the emitted Makefile."""
    return Emulated(
        name=name,
        cpu=cpu,
        tools="arm-none-eabi-",
        flags=("-std=c99", f"-mcpu={core}", "-mthumb", f"-mfloat-abi={floats}", level),
        link=(
            "FOLDER/PREFIX_cortex_m.c", "-T", "FOLDER/PREFIX_cortex_m.ld", "-nostartfiles",
            "--specs=nano.specs", "--specs=rdimon.specs", *(f"-Wl,--defsym={k}={v}" for k, v in memory.items()),
        ),
        emulator=(
            "qemu-system-arm", "-machine", machine, "-display", "none", "-monitor", "none", "-serial", "none",
            "-semihosting-config", "enable=on,target=native",
        ),
        kernel=("-kernel",),
    )  # fmt: skip


_A9 = ("-std=c99", "-mcpu=cortex-a9", "-mfpu=neon", "-mfloat-abi=hard", "-O3")
_RV32 = ("-std=c99", "-march=rv32imc", "-mabi=ilp32", "-ffreestanding")

EMULATED = (
    _cortex_m("Cortex-M4 -O3", "cortex-m4", "-O3", "mps2-an386", "cortex-m4"),
    _cortex_m("Cortex-M4 -Os", "cortex-m4", "-Os", "mps2-an386", "cortex-m4"),
    _cortex_m("Cortex-M7 -O3", "cortex-m7", "-O3", "mps2-an500", "cortex-m7"),
    _cortex_m("Cortex-M55 -O3", "cortex-m55", "-O3", "mps3-an547", "cortex-m55", _MPS3, "hard"),
    # A cortex-m0 has no machine with enough memory: a cortex-m3 knows its instructions.
    _cortex_m("Cortex-M0+ -O3", "cortex-m0plus", "-O3", "mps2-an385", "cortex-m0"),
    Emulated(
        "Cortex-A9 -O3", "cortex-a9", "arm-linux-gnueabihf-", _A9, ("-static",), ("qemu-arm", "-cpu", "cortex-a9")
    ),
    Emulated(
        "Cortex-A53 -O3", "cortex-a53", "aarch64-linux-gnu-", ("-std=c99", "-mcpu=cortex-a53", "-O3"), ("-static",),
        ("qemu-aarch64", "-cpu", "cortex-a53"),
    ),
    Emulated(
        "RV32IMC -O3", "rv32", "riscv64-unknown-elf-", (*_RV32, "-O3"), ("-nostdlib", "-lgcc"), ("qemu-riscv32",),
        libc=False,
    ),
)  # fmt: skip
