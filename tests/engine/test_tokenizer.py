"""Text as it grows: whole characters only, and in the end exactly what the tokens decode to."""

import random
import subprocess
import sys

import pytest
from tiny_llama import CORPUS, VOCAB, tiny_tokenizer
from transformers import AutoTokenizer, GPT2Config, PreTrainedTokenizerFast

from jpaged import DEMO_MODEL
from jpaged.engine.tokenizer import TextStream, Tokenizer
from jpaged.errors import UnsupportedModel


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(tiny_tokenizer())


def streamed(tokenizer: Tokenizer, prompt: list[int], tokens: list[int]) -> list[str]:
    """The text that each token adds, and at last what was still held back."""
    stream = TextStream(tokenizer, prompt, skip_special_tokens=True)
    return [*(stream.push(token) for token in tokens), stream.flush()]


def test_any_tokens_after_any_prompt_stream_to_their_decoded_text(tokenizer):
    rng = random.Random(0)
    for _ in range(500):
        prompt = [rng.randrange(VOCAB) for _ in range(rng.randrange(1, 12))]
        tokens = [rng.randrange(VOCAB) for _ in range(30)]
        assert "".join(streamed(tokenizer, prompt, tokens)) == tokenizer.hf.decode(
            tokens, skip_special_tokens=True
        )


def test_characters_of_several_tokens_come_whole(tokenizer):
    text = "".join(CORPUS) + "🙃 ħ ع 語𝄞"  # the last ones are not in the training text
    pieces = streamed(tokenizer, [5], tokenizer.encode(text))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert "" in pieces, "no character took several tokens, so nothing was tested"


def test_a_prompt_that_ends_within_a_character_stays_out_of_the_text(tokenizer):
    emoji = tokenizer.encode("🙃")
    assert len(emoji) > 1
    prompt = [*tokenizer.encode("secret"), *emoji[:-1]]
    assert "secret" not in "".join(streamed(tokenizer, prompt, tokenizer.encode(" and on")))


def test_a_word_keeps_the_space_that_parts_it_from_the_prompt():
    metaspace = Tokenizer(space_dropping_tokenizer())
    once, upon = metaspace.encode("once upon")
    assert metaspace.decode([upon]) == "upon"
    assert "".join(streamed(metaspace, [once], [upon])) == " upon"


def space_dropping_tokenizer():
    """Like Llama 2's: a text's first space is dropped when it is decoded."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    backend = Backend(models.WordLevel({"▁once": 0, "▁upon": 1, "?": 2}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_a_folder_without_a_tokenizer_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(UnsupportedModel, match="skip_tokenizer_init"):
        Tokenizer.load(tmp_path)


def test_a_checkpoint_without_tokenizer_files_has_no_tokenizer(tmp_path):
    # transformers makes an empty tokenizer from a configuration that names a kind with one
    GPT2Config().save_pretrained(tmp_path)

    with pytest.raises(UnsupportedModel, match="no tokenizer.*skip_tokenizer_init"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("kind", ["PreTrainedTokenizerFast", "LlamaTokenizer"])
def test_loading_never_runs_a_checkpoints_code(kind, monkeypatch, tmp_path):
    seen = {}

    def note(name, **options):
        seen.update(options)
        return tiny_tokenizer()

    (tmp_path / "tokenizer_config.json").write_text(f'{{"tokenizer_class": "{kind}"}}')
    for loader in (AutoTokenizer, PreTrainedTokenizerFast):
        monkeypatch.setattr(loader, "from_pretrained", note)
    Tokenizer.load(tmp_path)
    assert seen["trust_remote_code"] is False


def test_a_tokenizer_loaded_by_its_class_is_the_one_that_transformers_finds():
    ours, theirs = Tokenizer.load(DEMO_MODEL), AutoTokenizer.from_pretrained(DEMO_MODEL)
    chat = [{"role": "user", "content": "Hi"}]

    assert ours.encode("Once upon a time") == theirs("Once upon a time")["input_ids"]
    assert ours.render_chat(chat) == theirs.apply_chat_template(chat, tokenize=False)
    assert ours.hf.eos_token_id == theirs.eos_token_id


def test_loading_a_generic_tokenizer_does_not_import_pytorch():
    code = (
        "import sys; from jpaged.engine.tokenizer import Tokenizer; from jpaged import DEMO_MODEL; "
        "Tokenizer.load(DEMO_MODEL); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
