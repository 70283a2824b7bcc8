"""The demo model in the package is what its card says: small, fluent, right, and self-stopping."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

FOLDER = Path(__file__).parent.parent / "jpaged" / "assets" / "demo"
END_OF_TEXT, END_OF_TURN = "<|endoftext|>", "<|end|>"


@pytest.fixture(scope="module")
def model():
    loaded = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    return loaded.eval()


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(FOLDER)


def write_on(model, tokenizer, prompt: str, max_new_tokens: int = 500) -> str:
    """What the model writes after a prompt, greedily, its last special token included."""
    inputs = tokenizer(prompt, return_tensors="pt")
    tokens = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :])


def reply(model, tokenizer, *messages: str) -> str:
    """The answer to a chat whose messages alternate between user and assistant."""
    roles = ("user", "assistant")
    chat = [{"role": roles[i % 2], "content": text} for i, text in enumerate(messages)]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    written = write_on(model, tokenizer, prompt, max_new_tokens=80)
    assert written.endswith(END_OF_TURN), f"no end of turn: {written!r}"
    return written.removesuffix(END_OF_TURN)


def test_the_model_is_small(model):
    assert sum(parameter.numel() for parameter in model.parameters()) <= 5_000_000
    assert (FOLDER / "model.safetensors").stat().st_size <= 10_000_000


def test_the_configuration_is_a_llama_with_grouped_queries(model):
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["num_attention_heads"] == 2 * config["num_key_value_heads"]
    assert config["head_dim"] == 64
    assert config["max_position_embeddings"] == 1024


def test_a_story_ends_by_itself(model, tokenizer):
    story = write_on(model, tokenizer, "Once upon a time, in a green forest, there lived a")

    assert story.endswith(END_OF_TEXT)
    words = story.split()
    assert 60 <= len(words) <= 450
    # a model that repeats itself uses few different words
    assert len(set(words)) >= 0.4 * len(words)


def test_the_chat_template_renders_two_turns_after_a_system_line(tokenizer):
    chat = [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "Hi!"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "What is 1 + 2?"},
    ]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|system|>Answer briefly.<|end|><|user|>Hi!<|end|><|assistant|>Hello!<|end|>"
        "<|user|>What is 1 + 2?<|end|><|assistant|>"
    )
    assert tokenizer.encode(text).count(tokenizer.convert_tokens_to_ids(END_OF_TURN)) == 4


def test_any_text_survives_the_tokenizer(tokenizer):
    text = 'Ü 日本 🙂 , "x"\n\n 007 ...'
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_name_is_recalled_from_an_earlier_turn(model, tokenizer):
    answer = reply(
        model, tokenizer,
        "Hello, my name is Clara.", "Hello, Clara! How can I help you?", "What is my name?",
    )  # fmt: skip
    assert answer == "Your name is Clara."


def test_a_sum_is_right(model, tokenizer):
    assert reply(model, tokenizer, "What is 17 + 25?") == "17 + 25 = 42"


def test_an_asked_for_record_is_valid_json(model, tokenizer):
    answer = reply(model, tokenizer, "Turn this into JSON: Mara is 31 years old and lives in Oslo.")
    assert json.loads(answer) == {"name": "Mara", "age": 31, "city": "Oslo"}
