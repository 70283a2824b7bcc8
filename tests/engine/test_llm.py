"""LLM.generate and LLM.chat: what may go in, and in which order it comes out."""

import asyncio
import json
from pathlib import Path

import pytest
from engines import a_llm, first, greedily, random_prompts, stats, tokens_of
from tiny import greedy_of
from tiny_llama import END_OF_TURN, USER, save_tiny_llama

from jpaged import LLM, RequestRejected, SamplingParams, generate

TEXT = "Once upon a time"


class CountingBar:
    """Stands in for tqdm."""

    def __init__(self, total: int, **_: object):
        self.total, self.count = total, 0
        CountingBar.latest = self

    def __enter__(self) -> "CountingBar":
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, count: int) -> None:
        self.count += count


def test_every_form_of_a_prompt_gives_the_same_tokens(llm):
    ids = llm.get_tokenizer()(TEXT)["input_ids"]
    forms = [TEXT, {"prompt": TEXT}, {"prompt_token_ids": ids}, ids, tuple(ids)]
    alone = [llm.generate(form, greedily())[0] for form in forms]
    together = llm.generate(forms, greedily())
    assert tokens_of(alone) == tokens_of(together) == [first(alone[0]).token_ids] * 5
    assert [output.prompt for output in together] == [TEXT, TEXT, None, None, None]
    assert all(output.prompt_token_ids == ids for output in together)


def test_greedy_tokens_are_hugging_faces(llm, hf_model):
    prompts = random_prompts(0, 6)
    expected = [greedy_of(hf_model, prompt, 12) for prompt in prompts]
    assert min(margin for _, margin in expected) > 1e-4, "rounding could decide; change the seed"
    outputs = llm.generate(prompts, greedily(12))
    assert tokens_of(outputs) == [tokens for tokens, _ in expected]


def test_the_text_is_the_decoded_tokens(llm):
    output = llm.generate(TEXT, greedily(20))[0]
    assert first(output).text == llm.get_tokenizer().decode(first(output).token_ids)
    assert first(output).text != ""


def test_outputs_are_in_the_order_of_the_prompts(llm):
    prompts = random_prompts(1, 12)
    params = [greedily(1 + 11 * i % 17) for i in range(12)]  # they end in another order
    outputs = llm.generate(prompts, params)
    assert [output.prompt_token_ids for output in outputs] == prompts
    assert [len(each) for each in tokens_of(outputs)] == [each.max_tokens for each in params]
    assert all(output.finished and first(output).finished() for output in outputs)


def test_no_prompts_give_no_outputs(llm):
    assert llm.generate([]) == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_number_of_params_is_refused(llm, count):
    with pytest.raises(RequestRejected, match=f"{count} sampling_params for 2 prompts"):
        llm.generate([TEXT, TEXT], [greedily()] * count)
    with pytest.raises(RequestRejected, match=f"{count} priority for 2 prompts"):
        llm.generate([TEXT, TEXT], greedily(), priority=[1] * count)


def test_one_bad_prompt_stops_the_call_before_anything_runs(llm):
    num_steps = llm.llm_engine.loop.num_steps
    with pytest.raises(RequestRejected, match="empty"):
        llm.generate([TEXT, []], greedily())
    assert llm.llm_engine.loop.num_steps == num_steps


def test_urgent_requests_get_their_tokens_first(tiny_llama):
    prompts = random_prompts(2, 3, shortest=32, longest=32)  # each takes a step's whole budget
    with a_llm(tiny_llama, policy="priority") as llm:
        outputs = llm.generate(prompts, greedily(4), priority=[5, 0, 2])
    first_tokens = [stats(output).first_token_ts or 0.0 for output in outputs]
    assert sorted(range(3), key=first_tokens.__getitem__) == [1, 2, 0]


def test_progress_is_shown_by_whatever_bar_is_given(llm):
    llm.generate(random_prompts(3, 5), greedily(2), use_tqdm=CountingBar)
    assert CountingBar.latest.total == CountingBar.latest.count == 5


def test_a_chat_is_rendered_by_the_template(llm):
    messages = [{"role": "user", "content": "Hello!"}]
    output = llm.chat(messages, greedily())[0]
    assert output.prompt == "<|user|>Hello!<|end|><|assistant|>"
    assert output.prompt_token_ids[0] == USER and output.prompt_token_ids.count(END_OF_TURN) == 1
    assert tokens_of(llm.generate(output.prompt, greedily())) == tokens_of([output])


def test_tools_and_template_options_reach_the_template(llm):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "The"}]
    tool = {"type": "function", "function": {"name": "search", "parameters": {}}}
    goes_on = llm.chat(
        messages, greedily(), tools=[tool], add_generation_prompt=False, continue_final_message=True
    )[0]
    own = "{{ shout }}{{ messages[0]['content'] }}"
    by_own = llm.chat(
        messages, greedily(), chat_template=own, chat_template_kwargs={"shout": "HEY "}
    )[0]
    assert goes_on.prompt == "[search]<|user|>Hi<|end|><|assistant|>The"
    assert by_own.prompt == "HEY Hi"


def test_several_conversations_are_one_batch(llm):
    chats = [[{"role": "user", "content": text}] for text in ("One", "Two", "Three")]
    outputs = llm.chat(chats, greedily())
    assert [o.prompt for o in outputs] == [llm.chat(c, greedily())[0].prompt for c in chats]


@pytest.mark.parametrize("messages", [[], [[]], [{"content": "Hi"}], ["Hello"], [5]])
def test_a_malformed_chat_is_refused(llm, messages):
    with pytest.raises(RequestRejected, match="message"):
        llm.chat(messages, greedily())


def test_defaults_come_from_the_generation_config(tiny_llama, tmp_path):
    folder = save_tiny_llama(tmp_path)
    stored = {"temperature": 0.5, "top_k": 7, "top_p": None, "max_new_tokens": 3, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(stored))
    with a_llm(folder, warmup="none") as llm:
        assert llm.get_default_sampling_params() == SamplingParams(
            temperature=0.5, top_k=7, max_tokens=3
        )
        assert len(first(llm.generate(TEXT)[0]).token_ids) == 3


def test_two_engines_live_in_one_process(llm, tiny_llama):
    prompts = random_prompts(4, 3)
    before = tokens_of(llm.generate(prompts, greedily()))
    with a_llm(tiny_llama, seed=1) as other:
        assert tokens_of(other.generate(prompts, greedily())) == before
    assert tokens_of(llm.generate(prompts, greedily())) == before


def test_it_works_within_a_running_event_loop(llm):
    async def in_loop():
        return llm.generate(TEXT, greedily())

    assert tokens_of(asyncio.run(in_loop())) == tokens_of(llm.generate(TEXT, greedily()))


def test_the_one_liner_takes_a_folder_or_a_loaded_model(llm, tiny_llama: Path):
    from_folder = generate(
        str(tiny_llama), TEXT, temperature=0.0, max_tokens=5, ignore_eos=True, page_size=4,
        num_pages=128, max_num_seqs=4, max_num_batched_tokens=32, use_tqdm_on_load=False,
    )  # fmt: skip
    from_llm = generate(llm, TEXT, temperature=0.0, max_tokens=5, ignore_eos=True)
    assert tokens_of(from_folder) == tokens_of(from_llm)
    with pytest.raises(TypeError, match="page_size"):
        generate(llm, TEXT, page_size=4)


def test_leaving_the_context_closes_the_engine(tiny_llama):
    with LLM(str(tiny_llama), warmup="none", num_pages=8) as llm:
        pass
    with pytest.raises(RequestRejected, match="closed"):
        llm.generate(TEXT)
