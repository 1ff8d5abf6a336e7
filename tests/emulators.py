"""Processors that QEMU emulates: programs for them without a C library, which tell by their status alone.

A program is an emitted network's files, and a `main` that compares. Under qemu-ARCH it ends by Linux's `exit`; on a
board of qemu-system-arm by semihosting.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["EMULATED", "STRING", "Emulated"]

_MEMORY = """
#include <stddef.h>
#include <stdint.h>
#include <string.h>
int main(void);
void start(void);
void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    size_t i;
    for (i = 0; i < bytes; i++) { ((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i]; }
    return to;
}
void *memset(void *to, int value, size_t bytes)
{
    size_t i;
    for (i = 0; i < bytes; i++) { ((volatile uint8_t *)to)[i] = (uint8_t)value; }
    return to;
}
"""
STRING = """
#include <stddef.h>
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
"""
_ARM = """
__asm__(".globl _start\\n_start:\\n bl main\\n mov r7, #1\\n svc #0\\n");
"""
_AARCH64 = """
__asm__(".globl _start\\n_start:\\n bl main\\n mov x8, #93\\n svc #0\\n");
"""
_RISCV = """
__asm__(".globl _start\\n_start:\\n.option push\\n.option norelax\\n la gp, __global_pointer$\\n.option pop\\n"
        " call main\\n li a7, 93\\n ecall\\n");
"""
_CORTEX_M = """
void fault(void);
const void *const vectors[16] __attribute__((section(".vectors"), used)) = {
    (void *)STACK, (void *)start, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
};
static void end(uint32_t reason) /* SYS_EXIT */
{
    register uint32_t operation __asm__("r0") = 0x18, argument __asm__("r1") = reason;
    __asm__ volatile("bkpt 0xab" : "+r"(operation) : "r"(argument) : "memory");
    for (;;) { }
}
void fault(void) { end(0x20023); }
void start(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    *(volatile uint32_t *)0xe000ed88 |= 0xf << 20;
    __asm__ volatile("dsb\\n\\tisb" : : : "memory");
#endif
    end(main() == 0 ? 0x20026 : 0x20023);
}
"""


@dataclass(frozen=True)
class Emulated:
    """A processor.

    cpu       of pefslc
    compiler  a gcc, and `triple`: what clang calls it
    machine   flags that tell a compiler the instructions; link: flags of the linker
    start     C text, from the first instruction to `main`
    emulator  the program goes behind it
    """

    name: str
    cpu: str
    compiler: str
    triple: str
    machine: tuple[str, ...]
    link: tuple[str, ...]
    start: str
    emulator: tuple[str, ...]

    @property
    def missing(self) -> list[str]:
        return [tool for tool in (self.compiler, self.emulator[0]) if shutil.which(tool) is None]

    def run(self, folder: Path, sources: list[str], flags: tuple[str, ...]) -> int:
        """The status of `main`, which is among the sources; of a Cortex-M only whether it is 0."""
        (folder / "start.c").write_text(_MEMORY + self.start)
        (folder / "string.h").write_text(STRING)  # not every compiler here has one
        common = [self.compiler, *self.machine, "-ffreestanding", f"-I{folder}"]
        for source in sources:
            _run([*common, *flags, "-c", source, "-o", f"{source}.o"])
        _run([*common, "-O1", "-c", str(folder / "start.c"), "-o", str(folder / "start.o")])
        program = str(folder / "program.elf")
        objects = [f"{source}.o" for source in sources]
        _run([*common, *self.link, "-nostdlib", "-static", str(folder / "start.o"), *objects, "-lgcc", "-o", program])
        return subprocess.run([*self.emulator, program], check=False, timeout=100, stdin=subprocess.DEVNULL).returncode


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]


def _cortex_m(
    name: str, cpu: str, core: str, machine: str, flash: int = 0, ram: int = 0x20000000, floats: str = "soft"
) -> Emulated:
    flags = (f"-mcpu={core}", "-mthumb", f"-mfloat-abi={floats}")
    link = (f"-Wl,--section-start=.vectors={flash:#x}", f"-Wl,-Ttext={flash + 0x100:#x}", f"-Wl,-Tdata={ram:#x}")
    board = ("qemu-system-arm", "-machine", machine, "-display", "none", "-monitor", "none", "-serial", "none")
    semihosting = ("-semihosting-config", "enable=on,target=native", "-kernel")
    start = _CORTEX_M.replace("STACK", f"{ram + 0x80000:#x}")
    return Emulated(name, cpu, "arm-none-eabi-gcc", "arm-none-eabi", flags, link, start, (*board, *semihosting))


_A9 = ("-mcpu=cortex-a9", "-mfpu=neon", "-mfloat-abi=softfp")
_DOT = ("-march=armv8.2-a+dotprod",)

EMULATED = (
    _cortex_m("Cortex-M4", "cortex-m4", "cortex-m4", "mps2-an386"),
    _cortex_m("Cortex-M55", "cortex-m55", "cortex-m55", "mps3-an547", 0x10000000, 0x30000000, "hard"),
    # A Cortex-M3 knows the instructions of a Cortex-M0+, which has no board with enough memory.
    _cortex_m("Cortex-M0+", "cortex-m0", "cortex-m0plus", "mps2-an385"),
    Emulated(
        "Cortex-A9", "cortex-a9", "arm-none-eabi-gcc", "arm-none-eabi", _A9, (), _ARM, ("qemu-arm", "-cpu", "cortex-a9")
    ),
    Emulated(
        "Cortex-A53", "cortex-a53", "aarch64-linux-gnu-gcc", "aarch64-none-elf", ("-mcpu=cortex-a53",), (), _AARCH64,
        ("qemu-aarch64", "-cpu", "cortex-a53"),
    ),
    Emulated(
        "SDOT", "cortex-a53", "aarch64-linux-gnu-gcc", "aarch64-none-elf", _DOT, (), _AARCH64,
        ("qemu-aarch64", "-cpu", "max"),
    ),
    Emulated(
        "RV32IMC", "rv32", "riscv64-unknown-elf-gcc", "riscv32-unknown-elf", ("-march=rv32imc", "-mabi=ilp32"), (),
        _RISCV, ("qemu-riscv32",),
    ),
)  # fmt: skip
