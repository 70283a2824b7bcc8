"""Writes the random model that the benchmarks run: a bf16 Llama of 99M parameters.

    python benchmarks/make_model.py FOLDER       then  python benchmarks/offline.py FOLDER …

Speed does not depend on what weights say; random ones need no download.  Its tokenizer has learned
from Python's standard library, which is everywhere, too.  Needs PyTorch.
"""

import sys
import sysconfig
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SIZES = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
}


def make_tokenizer(folder: str) -> None:
    """Pairs of bytes, as many as the model knows tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZES["vocab_size"],
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts += sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*/*.py"))
    read = (text.read_text(encoding="utf-8", errors="replace") for text in texts)
    tokenizer.train_from_iterator(read, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    fast.save_pretrained(folder)


if __name__ == "__main__":
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).to(torch.bfloat16)
    model.save_pretrained(sys.argv[1])
    make_tokenizer(sys.argv[1])
    print(f"{sum(each.numel() for each in model.parameters()):,} parameters in {sys.argv[1]}")
