// What OpenAI's client for JavaScript makes of a server's answers, as JSON.

const OpenAI = require("openai");
const { VERSION } = require("openai/version");

async function main([url, prompt]) {
  const client = new OpenAI({ baseURL: url + "/v1", apiKey: "none needed", maxRetries: 0 });
  const fields = {
    model: "demo",
    messages: [{ role: "user", content: prompt }],
    temperature: 0,
    max_completion_tokens: 12,
  };
  const whole = await client.chat.completions.create(fields);
  const chunks = [];
  for await (const chunk of await client.chat.completions.create({ ...fields, stream: true }))
    chunks.push(chunk);
  let error = "";
  try {
    await client.chat.completions.create({ ...fields, model: "nothing" });
  } catch (caught) {
    if (!(caught instanceof OpenAI.NotFoundError)) throw caught;
    error = caught.message;
  }
  return {
    version: VERSION,
    text: whole.choices[0].message.content,
    finish_reason: whole.choices[0].finish_reason,
    prompt_tokens: whole.usage.prompt_tokens,
    completion_tokens: whole.usage.completion_tokens,
    streamed: chunks.map(chunk => chunk.choices[0].delta.content ?? "").join(""),
    num_chunks: chunks.length,
    error,
  };
}

main(process.argv.slice(2)).then(found => console.log(JSON.stringify(found)));
