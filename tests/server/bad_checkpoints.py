"""Folders that no server should load, made from the bundled model: one way of being bad each.

The first sixteen or so are refused before a port opens.  SERVED are not: a template is a program
that nobody runs before the first chat, and code beside the weights is code that nobody runs at all.
"""

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from jpaged.assets import DEMO_MODEL

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SPRUNG = "sprung"  # what code writes, if anybody runs it
Spoil = Callable[[Path], None]


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def make(folder: Path, spoil: Spoil) -> Path:
    shutil.copytree(DEMO_MODEL, folder)
    spoil(folder)
    return folder


def with_json(name: str, **values: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / name
        old = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(old | values))

    return spoil


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(folder / SPRUNG)))


def pickle_renamed(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps(Trap(folder / SPRUNG)))


def cut_short(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def header_without_end(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((2**63).to_bytes(8, "little") + b"{}")


def overlapping(folder: Path) -> None:
    """Two tensors in the same bytes."""
    one = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    header = json.dumps({"a": one, "b": {**one, "data_offsets": [8, 24]}}).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + bytes(24))


def with_tensors(change: Callable[[str, np.ndarray], np.ndarray]) -> Spoil:
    def spoil(folder: Path) -> None:
        old = load_file(folder / WEIGHTS)
        save_file({name: change(name, each) for name, each in old.items()}, folder / WEIGHTS)

    return spoil


def _of_whole_numbers(name: str, tensor: np.ndarray) -> np.ndarray:
    return tensor.astype(np.int32) if name.endswith("norm.weight") else tensor


def _narrower(name: str, tensor: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(tensor[:-1]) if "embed" in name else tensor


def missing_shard(folder: Path) -> None:
    names = {f"t{i}": f"model-{i:05}-of-00002.safetensors" for i in (1, 2)}
    (folder / WEIGHTS).rename(folder / names["t1"])
    (folder / INDEX).write_text(json.dumps({"weight_map": names}))


def points_outside(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"x": f"../../{WEIGHTS}"}}))


def linked_outside(folder: Path) -> None:
    """A template that would tell everybody what a file of this machine holds."""
    (folder / "chat_template.jinja").symlink_to("/etc/hostname")


def brings_code(folder: Path) -> None:
    (folder / "modeling_evil.py").write_text(f"open({str(folder / SPRUNG)!r}, 'w')\n")
    own = {"AutoModelForCausalLM": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Config"}
    with_json("config.json", model_type="evil", auto_map=own)(folder)


def tokenizer_brings_code(folder: Path) -> None:
    (folder / "tokenization_evil.py").write_text(f"open({str(folder / SPRUNG)!r}, 'w')\n")
    (folder / "tokenizer.json").unlink()
    own = {"AutoTokenizer": ["tokenization_evil.Evil", None]}
    with_json("tokenizer_config.json", tokenizer_class="Evil", auto_map=own)(folder)


def nested(path: Path) -> None:
    path.write_text('{"a":' * 50_000 + "1" + "}" * 50_000)


def foreign_tokenizer(folder: Path) -> None:
    """A model of 100 tokens, and the tokenizer of one of 2048."""
    with_json("config.json", vocab_size=100)(folder)
    tables = ("embed_tokens.weight", "lm_head.weight")
    with_tensors(lambda name, each: each[:100].copy() if name.endswith(tables) else each)(folder)


def adapter(folder: Path, **values: Any) -> None:
    """A LoRA adapter's folder in place of a model's."""
    for path in folder.iterdir():
        path.unlink()
    with_json("adapter_config.json", peft_type="LORA", **values)(folder)
    save_file({"base.lora_A.weight": np.zeros((4, 4), np.float32)}, folder / f"adapter_{WEIGHTS}")


# what is wrong, how it is made, and what the refusal must say
REFUSED: dict[str, tuple[Spoil, str]] = {
    "weights that are a pickle": (pickled, "run code when loaded and are refused"),
    "a pickle called .safetensors": (pickle_renamed, "is damaged or cut short"),
    "weights that were cut short": (cut_short, "is damaged or cut short"),
    "a header of 2^63 bytes": (header_without_end, "is damaged or cut short"),
    "tensors that overlap": (overlapping, "is damaged or cut short"),
    "tensors of whole numbers": (with_tensors(_of_whole_numbers), "floating point expected"),
    "a tensor of another shape": (with_tensors(_narrower), "(2048, 256) expected"),
    "a shard that is missing": (missing_shard, "1 of 2 shards are missing"),
    "an index that points outside": (points_outside, "points outside its folder"),
    "a link that leads outside": (linked_outside, "is a link that leads out of its folder"),
    "1e9 layers": (with_json("config.json", num_hidden_layers=10**9), "from 1 to 1000"),
    "layers of a text": (with_json("config.json", num_hidden_layers="4"), "from 1 to 1000"),
    "heads of -4": (with_json("config.json", num_attention_heads=-4), "from 1 to"),
    "an epsilon of a text": (with_json("config.json", rms_norm_eps="x"), "a number above 0"),
    "a rope that is a list": (with_json("config.json", rope_scaling=[1]), "it must be an object"),
    "a type that is a list": (with_json("config.json", model_type=["llama"]), "is no name"),
    "a config.json without end": (lambda folder: nested(folder / "config.json"), "is not JSON"),
    "a tokenizer.json without end": (
        lambda folder: nested(folder / "tokenizer.json"),
        "no tokenizer",
    ),
    "a model that brings its code": (brings_code, "model type 'evil' is not supported"),
    "a tokenizer that brings its code": (tokenizer_brings_code, "no tokenizer"),
    "another model's tokenizer": (foreign_tokenizer, "do not belong together"),
    "a temperature that no request may have": (
        with_json("generation_config.json", temperature=-1),
        "temperature",
    ),
    "an adapter of rank 1e6": (lambda folder: adapter(folder, r=10**6), "adapter"),
    "an adapter of a model elsewhere": (
        lambda folder: adapter(folder, r=4, base_model_name_or_path="../../other"),
        "adapter",
    ),
}


def with_template(template: str) -> Spoil:
    return with_json("tokenizer_config.json", chat_template=template)


def code_beside(folder: Path) -> None:
    """A model that we know and need no code for; transformers is told not to run it."""
    (folder / "modeling_evil.py").write_text(f"open({str(folder / SPRUNG)!r}, 'w')\n")
    own = {"AutoModelForCausalLM": "modeling_evil.Evil", "AutoTokenizer": ["modeling_evil.T", None]}
    for name in ("config.json", "tokenizer_config.json"):
        with_json(name, auto_map=own)(folder)


LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
# what is wrong, how it is made, and what a chat is told
SERVED: dict[str, tuple[Spoil, str | None]] = {
    "a template that loops": (with_template(LOOPS), "it took more than"),
    "a template that writes 1 GB": (with_template("{{ 'a' * 1000000000 }}"), "template refused"),
    "a template that asks for __class__": (
        with_template("{{ ''.__class__.__mro__ }}"),
        "template refused",
    ),
    "code beside a model that needs none": (code_beside, None),
}
