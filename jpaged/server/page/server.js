// What is asked of the server: JSON, and streams of events, with a key where it wants one.

const byId = id => document.getElementById(id);
const KEY = "jpaged-key";
let asking = null; // for a key, one at a time

async function ask(path, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY),
      headers = {};
    if (options.body) headers["Content-Type"] = "application/json";
    if (key !== null) headers.Authorization = "Bearer " + key;
    const response = await fetch(path, { ...options, headers });
    if (response.ok) return response;
    if (response.status !== 401) throw new Error(await reasonOf(response));
    await newKey(key);
  }
}

async function reasonOf(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).error.message;
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}

// the key that was refused: another question may have brought a better one meanwhile
async function newKey(refused) {
  if (sessionStorage.getItem(KEY) !== refused) return;
  asking ??= new Promise(resolve => {
    const dialog = byId("key-dialog");
    if (refused !== null) byId("key-note").textContent = "The server did not accept this key.";
    const close = () => {
      if (!byId("key").value) return dialog.showModal(); // Esc closes it: there is no way around
      sessionStorage.setItem(KEY, byId("key").value);
      byId("key").value = "";
      dialog.removeEventListener("close", close);
      asking = null;
      resolve();
    };
    dialog.addEventListener("close", close);
    dialog.showModal();
  });
  await asking;
}

// the data of each event, null for [DONE]; throws what the server says went wrong
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const text = part.replace(/^data: /, "");
      if (text === "[DONE]") yield null;
      else {
        const data = JSON.parse(text);
        if (data.error) throw new Error(data.error.message);
        yield data;
      }
    }
  }
}
