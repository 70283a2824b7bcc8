"""Why jpaged answers otherwise than vLLM, where it does."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """Explains the differences that match `what`, in the requests that match `where`."""

    where: str
    what: str
    why: str

    def explains(self, case: str, difference: str) -> bool:
        return bool(re.search(self.where, case) and re.search(self.what, difference))


STRICTER = r"^status: 4\d\d, vLLM (200|307|404|400)$"

ANSWERS = (
    Reason(
        "^(completion|chat)",
        r"(^|\.)(routed_experts|kv_transfer_params|ec_transfer_params|metrics|prompt_text): only v",
        "Null in vLLM's answers, too, unless a field asks for it that is refused here by name.",
    ),
    Reason(
        "stream",
        r"token_ids: only vLLM's$",
        "A chunk is written for every token; what is null is left out of it.",
    ),
    Reason(
        "^(completion|chat)",
        r"prompt_tokens_details: (an object, vLLM null|only ours)$",
        "Cached tokens are always told; vLLM does with `--enable-prompt-tokens-details`.",
    ),
    Reason("stream", r"completion_tokens_details: only ours$", "Null, as in whole answers."),
    Reason(
        "stream",
        r"system_fingerprint: only ours$",
        "Where a choice ends, also if an event with the usage follows.",
    ),
    Reason(
        "^(completion|chat)",
        r"stop_reason: null, vLLM a number$",
        "This model has two end tokens, and vLLM names the one that is not its tokenizer's. Here "
        "each of them is the end, and only a request's own `stop_token_ids` are a reason.",
    ),
    Reason(
        "echo",
        r"prompt_logprobs: null, vLLM a list$",
        "Nobody asked for `prompt_logprobs`; vLLM shows those that it needed itself.",
    ),
    Reason(
        "echo.* alone$",
        r"^usage\.(total|completion)_tokens: ",
        "With `max_tokens` 0 no token is said, and none is counted.",
    ),
    Reason("HEAD of health", "^status: 200, vLLM 405$", "Whoever may GET may ask with HEAD."),
    Reason("n, greedy", "^status: 200, vLLM 400$", "Equal samples are what was asked for."),
    Reason("suffix, empty", "^status: 200, vLLM 400$", "An empty suffix is none."),
    Reason(
        "max_tokens over the context",
        "^status: 200, vLLM 400$",
        "The answer ends with the context, and says so: `finish_reason` is `length`.",
    ),
    Reason(
        "truncate_prompt_tokens",
        r"^choices\.text: ",
        "The echo is what the model read; vLLM's has what was cut off, too.",
    ),
    Reason(
        "no generation prompt",
        r"^choices\.message\.role: ",
        "An answer is the assistant's; vLLM takes the last message's role.",
    ),
)

OTHER_ROUTES = (
    Reason("^models$", r"^data\.owned_by: ", "Who serves it."),
    Reason("^models$", r"^data\.root: ", "Where a model lies on the server's disk is not told."),
    Reason(
        "^(health|ping)",
        "^(header.content-type: only ours|: an object, vLLM a text)$",
        "An empty object in place of nothing: what answers is JSON.",
    ),
    Reason("^version$", "^version: ", "Its own."),
    Reason(
        "^metrics$",
        r"^header.content-type: .*0\.0\.4.*1\.0\.0",
        "Prometheus' text as every scraper reads it, and its successor.",
    ),
    Reason(
        "^metrics$",
        r"^metrics\.vllm:.*: only ours$",
        "Older names that AIBrix, llm-d and dashboards still read, and those of adapters.",
    ),
    Reason(
        "^metrics$",
        r"^metrics\.vllm:(mm_cache|estimated)_.*: only vLLM's$",
        "There are no images, and no estimate of a step's work.",
    ),
)

ERRORS = (
    Reason(
        ".",
        "^(detail: only vLLM's|error: only ours)$",
        "Every refusal has OpenAI's shape; of vLLM's some have its framework's.",
    ),
    Reason(
        "^malformed",
        r"^error\.type: 'BadRequestError', vLLM 'Bad Request'$",
        "One name for one status; vLLM has two for 400.",
    ),
    Reason(
        "^malformed",
        r"^error\.param: ('\w+'|null), vLLM ('body|a text)",
        "The field's name as OpenAI has it, without the place in the body, and none where the "
        "whole is wrong or the prompt does not fit.",
    ),
    Reason(
        "a prompt of all the context",
        r"^error\.param: null",
        "It is the prompt that does not fit, whatever `max_tokens` is.",
    ),
    Reason(".", r"^error\.param: a text, vLLM null$", "The field that is wrong is named."),
)

STRICTNESS = (
    Reason(
        r"^malformed: .*(is true|has true|is a text)$",
        STRICTER,
        '`true` and `"5"` are no numbers, and a text is no truth.',
    ),
    Reason(
        r"^malformed: (an unknown|vllm_xargs|a message with an unknown|stream_options with more"
        r"|functions|best_of|timeout is 0|length_penalty without|a beam search that draws"
        r"|a template's word)",
        STRICTER,
        "vLLM passes over what it does not know, or has no use for. A slip, or a wish that is not "
        "granted, is told here; `best_of` and `timeout` are granted.",
    ),
    Reason(
        r"^malformed: (response_format|structured_outputs)$",
        STRICTER,
        "Structured output is not there yet, and its lack is told.",
    ),
    Reason(
        r"^malformed: (n over the samples|stop is very long|logit_bias of a thousand"
        r"|model is very long)",
        STRICTER,
        "One request may ask for so much, and no more (`jpaged/server/limits.py`).",
    ),
    Reason(
        r"^malformed: (tokenize with both|detokenize what is not|a message without content)",
        STRICTER,
        "It has no one meaning.",
    ),
    Reason(
        r"^malformed body: (one key twice|UTF-16|a byte-order mark)",
        STRICTER,
        "Two readers of such a body could understand two things.",
    ),
    Reason("^malformed body: 32 MiB", "^status: 413, vLLM 400$", "Refused before it is read."),
    Reason(
        r"^malformed header: (text/plain|a form|UTF-16|gzip|br$)",
        "^status: 415, vLLM (200|400)$",
        "JSON in UTF-8, as it is, is all that is read: a form could come from another site's page, "
        "and what is packed would be of any size.",
    ),
    Reason(
        r"^malformed(: request_id| header: an id)",
        STRICTER,
        "Ids go into logs, headers and file names; these could pass for something else there.",
    ),
    Reason(
        r"^malformed header: a deadline", STRICTER, "vLLM has no deadlines, and passes over them."
    ),
    Reason(
        r"^malformed header: (a name that|an address within)",
        "^status: 403, vLLM 200$",
        "A page of another site could reach a server without keys through such a name.",
    ),
    Reason(
        r"^malformed (header: 150 headers|route: a long URL)",
        STRICTER,
        "More than any client needs.",
    ),
    Reason(
        r"^malformed route: (a slash behind|an encoded slash)",
        STRICTER,
        "A path that means one thing to a proxy and another to us is none.",
    ),
    Reason(
        r"^malformed: load a model",
        "^status: 403, vLLM 404$",
        "vLLM loads no models while it runs.",
    ),
)

REASONS = (*ANSWERS, *OTHER_ROUTES, *ERRORS, *STRICTNESS)
