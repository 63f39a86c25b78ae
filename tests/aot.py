"""Compile the GPU kernels for a card that need not be there, and print what each variant takes.

    python -m tests.aot [--arch 90]

One JSON object a line: registers of a thread, bytes that spill to the stack, shared memory, warps, instructions.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from trainer.engines.kernels.triton.launch import KERNELS, choose_shape, constants

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TYPES = {
    "output_ids_B": "*i32", "input_ids_B": "*i32", "input_VD": "*fp32", "output_VD": "*fp32", "alias_V": "*i64",
    "loss_P": "*fp64", "scratch": "*fp32", "windows_P": "*fp32", "pairs": "i32", "rows": "i32", "key_low": "i32",
    "key_high": "i32", "rate_start": "fp32", "rate_slope": "fp32",
}  # fmt: skip
#: architecture, dim, negatives, predict, exclude, arithmetic.
VARIANTS = [
    ("skipgram", 100, 5, "center", "output", "fp32"),
    ("skipgram", 100, 5, "context", "output", "fp32"),
    ("skipgram", 100, 5, "center", "pair", "fp32"),
    ("skipgram", 300, 5, "center", "output", "fp32"),
    ("skipgram", 100, 1, "center", "output", "fp32"),
    ("skipgram", 100, 20, "center", "output", "fp32"),
    ("skipgram", 300, 20, "center", "output", "fp32"),
    ("skipgram", 100, 5, "center", "output", "bf16"),
    ("skipgram", 300, 5, "center", "output", "bf16"),
    ("cbow", 100, 5, "center", "output", "fp32"),
    ("cbow", 100, 1, "center", "output", "fp32"),
    ("cbow", 300, 20, "center", "output", "fp32"),
]


def compile_variant(
    arch: int, architecture: str, dim: int, negatives: int, predict: str, exclude: str, arithmetic: str
) -> dict[str, Any]:
    """Compile one variant to machine code, and read its resources."""
    per_pair, kernel = predict == "context", KERNELS[architecture]
    shape = choose_shape(dim, negatives, architecture=architecture, per_pair=per_pair, arithmetic=arithmetic)
    fixed = constants(shape, exclude)
    names = kernel.arg_names
    signature = {name: "constexpr" if name in fixed else TYPES[name] for name in names}
    aligned = {
        (i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")
    }  # PyTorch's allocator gives no less
    source = ASTSource(fn=kernel, signature=signature, constexprs=fixed, attrs=aligned)
    options = {"num_warps": shape.warps, "maxnreg": shape.register_limit}
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = _run("cuobjdump", "--dump-resource-usage", file.name)
        code = _run("nvdisasm", file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+).* LOCAL:(\d+)", usage)
    assert found, usage
    instructions = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]+)", code)
    return {
        "architecture": architecture, "dim": dim, "negatives": negatives, "predict": predict, "exclude": exclude,
        "arithmetic": arithmetic, "warps": shape.warps, "registers": int(found[1]), "stack_bytes": int(found[2]),
        "local_bytes": int(found[3]),
        "spills": sum(name.startswith(("STL", "LDL")) for name in instructions),
        "shared_bytes": compiled.metadata.shared, "instructions": len(instructions),
        "atomic_additions": sum(name.startswith(("RED", "ATOM")) and "REDUX" not in name for name in instructions),
    }  # fmt: skip


def _run(tool: str, *words: str) -> str:
    return subprocess.run([TOOLS / tool, *words], check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Print a line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", type=int, default=90, help="compute capability, without its dot")
    args = parser.parse_args()
    for variant in VARIANTS:
        print(json.dumps(compile_variant(args.arch, *variant)), flush=True)


if __name__ == "__main__":
    main()
