"""The offline engine: prompts in, outputs back, with vLLM's signatures."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jpaged.beam_search_params import BeamSearchParams
from jpaged.engine.defaults import sampling_defaults
from jpaged.engine.door import Prompt, check_type
from jpaged.engine.interrupts import deferred_interrupts
from jpaged.engine.llm_engine import LLMEngine
from jpaged.engine.outputs import BeamSearchOutput, RequestOutput
from jpaged.engine.progress import progress
from jpaged.errors import RequestRejected
from jpaged.runner.memory import MemoryReport
from jpaged.sampling_params import RequestOutputKind, SamplingParams
from jpaged.scheduling.request import Request
from jpaged.scheduling.terms import NO_TERMS, Terms

Params = SamplingParams | Sequence[SamplingParams]


class LLM:
    """A model, ready to generate.

        with LLM("demo") as llm:
            outputs = llm.generate(["Once upon a time"], SamplingParams(max_tokens=40))

    Options are those of `EngineConfig`; vLLM's names, so that its scripts run by changing the
    import.  `llm_engine` is the engine within: it steps, and tells of pages, statistics and
    snapshots.  Not thread-safe: one caller at a time.
    """

    def __init__(self, model: str, **options: Any):
        self.llm_engine = LLMEngine(model, **options)
        self._num_requests = 0

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: Params | None = None,
        *,
        use_tqdm: bool | Callable[..., Any] = True,
        priority: int | Sequence[int] | None = None,
        terms: Terms | Sequence[Terms] = NO_TERMS,
    ) -> list[RequestOutput]:
        """Generates for all prompts together; outputs are in the prompts' order.

        sampling_params: one for all, one each, or None for the model's own defaults.  terms: whose
        they are and what was promised, for policies and reports.  Raises
        `RequestRejected` before anything is run if any prompt or parameter is bad.  Ctrl-C
        aborts this call's requests and leaves the engine usable.
        """
        each_prompt: list[Any] = [prompts] if is_one(prompts) else list(prompts)
        params = one_each("sampling_params", sampling_params, len(each_prompt))
        defaults = self.get_default_sampling_params()
        priorities = one_each("priority", priority, len(each_prompt))
        each_terms = one_each("terms", terms, len(each_prompt))
        checked = [
            self.llm_engine.check(
                self._next_id(), prompt, final(each or defaults), level or 0, terms=known
            )
            for prompt, each, level, known in zip(
                each_prompt, params, priorities, each_terms, strict=True
            )
        ]
        with _bar(len(checked), use_tqdm) as bar:
            return self._run(checked, self.llm_engine.enqueue, bar)

    def chat(
        self,
        messages: Sequence[dict] | Sequence[Sequence[dict]],
        sampling_params: Params | None = None,
        use_tqdm: bool | Callable[..., Any] = True,
        *,
        priority: int | Sequence[int] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: list[dict] | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> list[RequestOutput]:
        """Generates the next message of one conversation, or of several."""
        if not messages:
            raise RequestRejected("a conversation needs at least one message")
        chats: Sequence[Any] = [messages] if isinstance(messages[0], dict) else messages
        tokenizer = self.llm_engine.need_tokenizer()
        prompts = []
        for chat in chats:
            text = tokenizer.render_chat(
                chat,
                chat_template=chat_template,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                tools=tools,
                **(chat_template_kwargs or {}),
            )
            # the template writes the special tokens itself
            tokens = tokenizer.encode(text, add_special_tokens=False)
            prompts.append({"prompt_token_ids": tokens, "prompt": text})
        return self.generate(prompts, sampling_params, use_tqdm=use_tqdm, priority=priority)

    def beam_search(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: BeamSearchParams,
        *,
        use_tqdm: bool | Callable[..., Any] = False,
        concurrency_limit: int | None = None,
        priority: int | Sequence[int] | None = None,
    ) -> list[BeamSearchOutput]:
        """The `beam_width` likeliest continuations of each prompt; outputs in the prompts' order.

        Exactly Hugging Face transformers' `generate(num_beams=…)`, but batched continuously, and
        with pages that beams share.  concurrency_limit: at most so many prompts at a time.  Raises
        `RequestRejected` before anything is run if any prompt or parameter is bad.
        """
        each_prompt: list[Any] = [prompts] if is_one(prompts) else list(prompts)
        priorities = one_each("priority", priority, len(each_prompt))
        checked = [
            self.llm_engine.check_beam_search(self._next_id(), prompt, params, level or 0)
            for prompt, level in zip(each_prompt, priorities, strict=True)
        ]
        size = max(1, len(checked)) if concurrency_limit is None else concurrency_limit
        check_type("concurrency_limit", size, int)
        if size < 1:
            raise RequestRejected(f"concurrency_limit must be at least 1, not {size}")
        outputs: list[RequestOutput] = []
        with _bar(len(checked), use_tqdm) as bar:
            for first in range(0, len(checked), size):
                batch = checked[first : first + size]
                outputs += self._run(batch, self.llm_engine.enqueue_beam_search, bar)
        return [BeamSearchOutput.of(output) for output in outputs]

    def _next_id(self) -> str:
        self._num_requests += 1
        return f"llm-{self._num_requests - 1}"

    def _run[Rest](
        self,
        checked: Sequence[tuple[Request, Rest]],
        enqueue: Callable[[Request, Rest], None],
        bar: Any,
    ) -> list[RequestOutput]:
        """Queues requests and runs them to their ends.  Returns their outputs."""
        ids = [request.id for request, _ in checked]
        finished: dict[str, RequestOutput] = {}
        try:
            for request, rest in checked:
                enqueue(request, rest)
            with deferred_interrupts() as check_interrupt:
                while len(finished) < len(ids):
                    for output in self.llm_engine.step():
                        if output.finished:
                            finished[output.request_id] = output
                            bar.update(1)
                    check_interrupt()
        except BaseException:
            self.llm_engine.abort_request([each for each in ids if each not in finished])
            raise
        return [finished[each] for each in ids]

    def get_tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        return self.llm_engine.get_tokenizer()

    def get_default_sampling_params(self) -> SamplingParams:
        """The model's own, from its generation_config.json."""
        return SamplingParams(**sampling_defaults(self.llm_engine.folder))

    def reset_prefix_cache(self) -> bool:
        """Forgets all cached prefixes, so that nothing computed so far is found again."""
        return self.llm_engine.reset_prefix_cache()

    def memory_report(self) -> MemoryReport:
        """What weights, cache and steps take, and what is free.  `print` it for a table."""
        return self.llm_engine.memory_report()

    def close(self) -> None:
        """Frees the weights and the cache."""
        self.llm_engine.close()

    def __enter__(self) -> "LLM":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_one(prompts: object) -> bool:
    """True for a single prompt; a flat list of token ids is one."""
    if isinstance(prompts, str | dict) or not isinstance(prompts, Iterable):
        return True
    return isinstance(prompts, Sequence) and bool(prompts) and isinstance(prompts[0], int)


def one_each(name: str, value: Any, count: int) -> list:
    """A value for each of so many prompts.  Raises `RequestRejected` where the numbers differ."""
    if not isinstance(value, Sequence):
        return [value] * count
    if len(value) != count:
        raise RequestRejected(
            f"{len(value)} {name} for {count} prompts; give one for all or one each"
        )
    return list(value)


def final(params: SamplingParams) -> SamplingParams:
    """The same, but reported once, at the end."""
    check_type("sampling_params", params, SamplingParams)
    return dataclasses.replace(params, output_kind=RequestOutputKind.FINAL_ONLY)


def _bar(total: int, use_tqdm: bool | Callable[..., Any]) -> Any:
    if callable(use_tqdm):
        return use_tqdm(total=total, desc="Generating", unit="request")
    return progress(total, "Generating", "request", shown=use_tqdm)
