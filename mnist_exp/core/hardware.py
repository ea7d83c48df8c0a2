"""The hardware of this machine: memory, cores, GPU, bfloat16."""

import os
import platform
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
# Of oneDNN, which multiplies on CPUs: off with 0, or kept below what the CPU has.
ONEDNN, ONEDNN_ISAS = "TF_ENABLE_ONEDNN_OPTS", ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
ISA_FLAGS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "bfloat16", "amx_bf16": "AMX"}
BFLOAT16_CAPABILITY = (8, 0)  # Ampere, the first with bfloat16 tensor cores


def memory() -> int:
    """The memory limit of this process, in bytes."""
    limits = [sys.maxsize]
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):  # "max", and on machines without control groups
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits)


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def has_bfloat16() -> bool:
    """Whether the GPU, or without one the CPU, multiplies bfloat16 in hardware."""
    if not has_gpu():
        limits = [os.environ[name].upper() for name in ONEDNN_ISAS if os.environ.get(name)]
        limit = limits[0] if limits else "ALL"
        is_limited = not (limit in ("ALL", "DEFAULT") or "BF16" in limit or "AMX" in limit)
        is_off = os.environ.get(ONEDNN, "").lower() in ("0", "false")
        return bool(BFLOAT16_FLAGS & cpu_flags()) and not is_limited and not is_off
    import tensorflow as tf

    gpu = tf.config.list_physical_devices("GPU")[0]
    capability = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
    return bool(capability >= BFLOAT16_CAPABILITY)


@cache
def cpu_flags() -> frozenset[str]:
    """The CPU's instruction sets by their Linux names; empty on other systems."""
    lines = _cpuinfo("flags")
    return frozenset(lines[0].split()) if lines else frozenset()


def describe() -> dict[str, str]:
    """CPU, threads, GPU and what limits them: timings and last bits depend on them."""
    import tensorflow as tf

    configured = os.environ.get("TF_NUM_INTRAOP_THREADS")
    threads = configured or tf.config.threading.get_intra_op_parallelism_threads() or cores()
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(g).get("device_name", g.name) for g in gpus]
    return {
        "cpu": (_cpuinfo("model name") or [platform.processor() or platform.machine()])[0],
        "threads": str(threads),
        "gpu": ", ".join(names) or "none",
        "instructions": ", ".join(
            [name for flag, name in ISA_FLAGS.items() if flag in cpu_flags()]
            + [f"{key}={os.environ[key]}" for key in (ONEDNN, *ONEDNN_ISAS) if key in os.environ]
        ),
    }


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpuinfo(field: str) -> list[str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return []
    pairs = (line.partition(":") for line in path.read_text().splitlines())
    return [value.strip() for key, _, value in pairs if key.strip() == field]
