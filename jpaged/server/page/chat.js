// A conversation, or a text that is gone on with; answers come as they are said.

const chat = (() => {
  let messages = [], // of the conversation
    running = null; // what ends the answer that is coming
  const log = byId("log"),
    prompt = byId("prompt");

  const mode = () => document.querySelector("input[name=mode]:checked").value;
  const wanted = name => (byId(name).value === "" ? undefined : Number(byId(name).value));

  function add(kind, text) {
    const said = element("div", { class: "text" }, text);
    const block = element("article", { class: "message " + kind, "aria-label": kind }, said);
    log.append(block);
    follow(true);
    return { block, said };
  }

  // stays at the end unless somebody scrolled away from it
  function follow(always) {
    const isNear = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    if (always || isNear) log.scrollTop = log.scrollHeight;
  }

  function note(block, text, isWrong = false) {
    const line = element("p", { class: "note meta" + (isWrong ? " wrong" : "") }, text);
    if (isWrong) line.setAttribute("role", "alert");
    block.append(line);
    follow();
  }

  async function send() {
    const text = prompt.value,
      model = byId("model").value;
    if (running || !text.trim() || !model) return;
    prompt.value = "";
    running = new AbortController();
    busy(true);
    const isChat = mode() === "chat";
    const path = isChat ? "/v1/chat/completions" : "/v1/completions";
    if (isChat) messages.push({ role: "user", content: text });
    add(isChat ? "user" : "given", text);
    const answer = new Answer(isChat);
    answer.part(0).block.classList.add("waits"); // for a seat, or for its first word
    try {
      const body = JSON.stringify({
        model,
        ...(isChat ? { messages } : { prompt: text }),
        temperature: wanted("temperature"),
        max_tokens: wanted("max-tokens") ?? (isChat ? undefined : null),
        n: wanted("samples"),
        stream: true,
        stream_options: { include_usage: true, continuous_usage_stats: true },
      });
      const response = await ask(path, { method: "POST", body, signal: running.signal });
      for await (const event of eventsOf(response)) answer.take(event);
      answer.end();
    } catch (error) {
      answer.end(running.signal.aborted ? "stopped" : error.message, !running.signal.aborted);
      if (!answer.text) {
        if (isChat) messages.pop(); // it was refused: the next one is sent without it
        prompt.value ||= text;
        prompt.select();
      }
    } finally {
      if (isChat && answer.text) messages.push({ role: "assistant", content: answer.text });
      running = null;
      busy(false);
      engine.mine(null);
      // a button that cannot be pressed any more has lost it
      if (document.activeElement.matches("body, #send, #stop")) prompt.focus();
    }
  }

  class Answer {
    constructor(isChat) {
      this.isChat = isChat;
      this.parts = []; // a block for each sample
      this.begun = performance.now();
      this.first = null;
      this.reason = "";
    }

    take(event) {
      if (event === null) {
        this.isWhole = true;
        return;
      }
      engine.mine(this.isChat ? event.id : event.id + "-0");
      if (event.usage) this.usage = event.usage;
      for (const choice of event.choices) {
        const piece = this.isChat ? (choice.delta.content ?? "") : choice.text;
        if (piece) {
          this.first ??= performance.now();
          this.early ??= event.usage.completion_tokens; // which came with it
          this.parts[0].block.classList.remove("waits");
        }
        this.part(choice.index).said.append(piece);
        if (choice.finish_reason) this.reason = choice.finish_reason;
      }
      follow();
    }

    part(index) {
      return (this.parts[index] ??= add(this.isChat ? "assistant" : "continued", ""));
    }

    get text() {
      return this.parts[0].said.textContent;
    }

    end(problem, isWrong = false) {
      const { block } = this.parts.at(-1);
      this.parts[0].block.classList.remove("waits");
      if (!problem && !this.isWhole) [problem, isWrong] = ["The answer broke off.", true];
      if (!this.text && !problem) this.parts[0].said.append("(nothing)");
      note(block, problem && isWrong ? problem : this.summary(problem), isWrong);
    }

    summary(problem) {
      const now = performance.now(),
        parts = [];
      if (this.usage) {
        const { completion_tokens: said, prompt_tokens: given, prompt_tokens_details: details } = this.usage;
        const cached = details?.cached_tokens ? `, ${details.cached_tokens} of them cached` : "";
        parts.push(`${said} tokens`, `prompt of ${given}${cached}`);
        // a quick answer may have come at once
        if (said > this.early && now - this.first > 100)
          parts.push(`${amount(((said - this.early) * 1000) / (now - this.first))} tokens/s`);
      }
      if (this.first) parts.push(`first after ${seconds((this.first - this.begun) / 1000)}`);
      if (this.reason === "length") parts.push("cut off by its length");
      return [problem, ...parts].filter(Boolean).join(" · ");
    }
  }

  function busy(isBusy) {
    byId("send").disabled = isBusy;
    byId("stop").disabled = !isBusy;
    log.setAttribute("aria-busy", isBusy);
  }

  function clear() {
    running?.abort();
    messages = [];
    log.replaceChildren();
  }

  function setModel(model) {
    const [answers, goesOn] = document.querySelectorAll("input[name=mode]");
    answers.disabled = !model.has_chat;
    if (!model.has_chat) goesOn.checked = true;
    answers.parentElement.title = model.has_chat ? "" : "this model has no chat template";
    byId("temperature").placeholder = model.temperature;
    byId("samples").max = model.max_num_seqs;
    setMode();
    clear();
  }

  function setMode() {
    const isChat = mode() === "chat";
    prompt.placeholder = isChat ? "Say something" : "Once upon a time";
    byId("send").textContent = isChat ? "Send" : "Go on";
    byId("chat-title").textContent = isChat ? "Chat" : "Text";
  }

  byId("composer").addEventListener("submit", event => {
    event.preventDefault();
    send();
  });
  prompt.addEventListener("keydown", event => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  byId("mode").addEventListener("change", () => {
    setMode();
    clear();
  });
  byId("stop").addEventListener("click", () => running?.abort());
  byId("clear").addEventListener("click", () => {
    clear();
    prompt.focus();
  });
  addEventListener("keydown", event => {
    if (event.key === "Escape" && running) running.abort();
    const isTyping = event.target.matches("input, textarea, select");
    if (event.key === "/" && !isTyping) {
      event.preventDefault();
      prompt.focus();
    }
  });
  return { setModel };
})();
