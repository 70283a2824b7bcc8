"""A tiny random Llama with a tokenizer of its own: what tests of a whole engine load."""

from pathlib import Path

from tiny import save_tiny
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

VOCAB = 390  # more than the tokenizer's 384, as checkpoints padded to a round number have
MAX_POSITIONS = 128
END_OF_TEXT, END_OF_TURN, USER, ASSISTANT = 0, 1, 2, 3
SPECIAL = ["<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% if tools %}[{{ tools | map(attribute='function.name') | join(',') }}]{% endif %}"
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if not (loop.last and continue_final_message) %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CORPUS = [
    "Once upon a time there was a small fox who liked to read the page of a book.",
    "The old key opened the door, and behind the door there was another door.",
    "Ünïcödé: 日本語, 中文, ελληνικά, emoji 🙂🦊🎉 and naïve café words.",
]


def save_tiny_llama(folder: Path, *, num_layers: int = 2) -> Path:
    """Writes a float32 checkpoint with a byte-level tokenizer, a chat template and defaults."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_POSITIONS,
        bos_token_id=END_OF_TEXT,
        eos_token_id=END_OF_TEXT,
    )
    save_tiny(folder, config)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text has tokens, and a character may take several of them."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=1,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=SPECIAL[0], chat_template=TEMPLATE
    )
