"""The process behind `aot.py`: reads cases line by line, compiles, and answers with a line each.

A case that fails ends it, as one that aborts does; what was said until then is in its log.
"""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from aot import TARGETS, Target

SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
ENTRY = re.compile(r"Compiling entry function '(\w+)'")
USED = re.compile(r"Used (\d+) registers")
SCRATCH = re.compile(r"smem_scratch_bytes=(\d+)")
BARRIERS = re.compile(r"num_barriers=(\d+)[^)]*\): (\d+)")  # of 8 bytes each
GRAPH = re.compile(r"^\d+: kCommandBuffer", re.MULTILINE)
CALLS = re.compile(r'custom_call_target="[^"]*(?:mosaic_gpu|triton)[^"]*"')


def describe(target: Target) -> str:
    """The GPU in XLA's words; where GPUs differ in what no compiler reads, one stands for all."""
    major, minor = target.compute_capability
    extension = "feature_extension: ACCELERATED_FEATURES" if major >= 9 else ""
    return f"""
    gpu_device_info {{
      threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
      shared_memory_per_block: 49152 shared_memory_per_block_optin: {target.shared_kib * 1024}
      shared_memory_per_core: {(target.shared_kib + 1) * 1024}
      core_count: {target.num_sms} fpus_per_core: 128
      block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
      memory_bandwidth: 3000000000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
      device_memory_size: 85000000000
      cuda_compute_capability {{ major: {major} minor: {minor} {extension} }}
      registers_per_core_limit: 65536 registers_per_block_limit: 65536
    }}
    platform_name: "CUDA" runtime_version {{ major: 13 }}
    dnn_version_info {{ major: 9 minor: 8 }} device_description_str: "{target.name}"
    """


def kernel_in(said: str, shared_bytes: int) -> dict:
    """The one kernel of which ptxas speaks; it knows nothing of shared memory asked at launch."""
    name, spills, used = ENTRY.search(said), SPILLS.search(said), USED.search(said)
    assert name and spills and used, f"ptxas said: {said}"
    return {
        "name": name[1],
        "registers": int(used[1]),
        "spill_stores": int(spills[1]),
        "spill_loads": int(spills[2]),
        "shared_bytes": shared_bytes,
    }


def mosaic_kernels(dumped: Path) -> Iterator[dict]:
    for path in sorted(dumped.glob("*.ptxas")):
        asked = path.with_suffix(".resources.txt").read_text()
        scratch = SCRATCH.search(asked)
        assert scratch, f"{path.stem} asked for {asked}"
        barriers = sum(int(number) * int(times) for number, times in BARRIERS.findall(asked))
        yield kernel_in(path.read_text(), int(scratch[1]) + 8 * barriers)


def triton_kernels(dumped: Path) -> Iterator[dict]:
    """Runs ptxas over what Triton wrote: on a GPU that is done at the kernel's first launch."""
    for path in sorted(dumped.rglob("*.ptx")):
        target = re.search(r"^\.target (\w+)", path.read_text(), re.MULTILINE)
        asked = re.search(r"shared_mem_bytes: (\d+)", path.with_suffix(".compile_info").read_text())
        assert target and asked, f"{path} is not as Triton writes it"
        command = ["ptxas", "-v", f"-arch={target[1]}", str(path), "-o", os.devnull]
        said = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True).stderr
        yield kernel_in(said, int(asked[1]))


def num_graphs(dumped: Path) -> int:
    """CUDA graphs (command buffers) in a whole step: kernels between them are launched singly."""
    found = dumped.glob("*thunk_sequence_after_thunk_passes.txt")
    return sum(len(GRAPH.findall(path.read_text())) for path in found)


def compile_case(device, case: str, params: dict, with_hlo: bool) -> tuple[dict, str]:
    """What XLA says of the compiled case, and its text."""
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    module, function = case.split(":")
    here = NamedSharding(Mesh([device], ("x",)), PartitionSpec())
    with jax.default_device(device):  # Mosaic reads the compute capability there, or takes sm_90
        fn, args, options = getattr(importlib.import_module(module), function)(**params)
        args = jax.tree.map(
            lambda each: jax.ShapeDtypeStruct(each.shape, each.dtype, sharding=here), args
        )
        compiled = jax.jit(fn, **options).lower(*args).compile()
    sizes = compiled.memory_analysis()
    names = ("argument", "output", "alias", "temp")
    report = {f"{name}_bytes": getattr(sizes, f"{name}_size_in_bytes") for name in names}
    hlo = compiled.as_text() or ""
    return report | {"hlo": hlo if with_hlo else None}, hlo


def answer(device, request: str, folder: Path) -> dict | None:
    """A report, or None where a kernel was compiled before in this process and goes unreported."""
    os.truncate(folder / "log", 0)
    for dumped in (folder / "mosaic", folder / "triton", folder / "xla"):
        shutil.rmtree(dumped, ignore_errors=True)
        dumped.mkdir()  # Mosaic makes none
    report, hlo = compile_case(device, *json.loads(request))
    kernels = [*mosaic_kernels(folder / "mosaic"), *triton_kernels(folder / "triton")]
    report |= {"num_graphs": num_graphs(folder / "xla")}
    return report | {"kernels": kernels} if kernels or not CALLS.search(hlo) else None


def serve(target: str, folder: Path) -> None:
    replies = os.dup(1)
    with (folder / "log").open("a") as log:  # LLVM and ptxas know nothing of sys.stdout
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ["MOSAIC_GPU_DUMP_TO"] = str(folder / "mosaic")
    os.environ["JAX_TRITON_DUMP_DIR"] = str(folder / "triton")
    dump = f"--xla_dump_to={folder / 'xla'} --xla_dump_hlo_module_re=jit_step_of_letter"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {dump}"

    from jax.experimental import topologies

    description = describe(TARGETS[target])
    topology = topologies.get_topology_desc(
        target, "cuda", target_config=description, topology="1x1x1"
    )
    for request in sys.stdin:
        line = json.dumps(answer(topology.devices[0], request, folder)) + "\n"
        os.write(replies, line.encode())


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
