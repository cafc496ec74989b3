// The stream of the node, and requests to it. With a secret, every request carries it; the tab forgets it when it closes.

const KEY = "everwrite.secret";

export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || `The node answered with ${status}.`);
    this.status = status;
    this.hint = document.hint || "";
    this.absent = document.absent || "";
  }
}

export const signIn = (secret) => sessionStorage.setItem(KEY, secret);

function headers(more) {
  const secret = sessionStorage.getItem(KEY);
  return { ...more, ...(secret ? { Authorization: `Bearer ${secret}` } : {}) };
}

// Ask the node; the response if it is good (or among `also`), else a Problem.
export async function ask(path, options = {}, also = []) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers(options.headers), cache: "no-store" });
  } catch {
    throw new Problem(0, { detail: "The node does not answer.", hint: "It may be down: open another one." });
  }
  if (response.ok || also.includes(response.status)) return response;
  throw new Problem(response.status, await response.json().catch(() => ({})));
}

export const askJson = async (path, options) => (await ask(path, options)).json();

// The path of a key: every byte of it, whatever it is.
export const pathOf = (root, bucket, key) => `${root}${encodeURIComponent(bucket)}/${base64url(key)}`;

export function base64url(text) {
  const bytes = new TextEncoder().encode(text);
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

const HIDDEN_MS = 10000;

// Listen for ever: hear(kind, data) for each event, lost(problem) whenever the stream ends. A browser has six connections
// to one node, for all tabs together: so who is not seen, or was left by the back button, gives its own back.
export async function listen(hear, lost) {
  let pause = 500, hidden = null, stream = new AbortController();
  window.addEventListener("pagehide", () => stream.abort());
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hidden);
    if (document.hidden) hidden = setTimeout(() => stream.abort(), HIDDEN_MS);
  });
  for (;;) {
    stream = new AbortController();
    try {
      const response = await ask("/v1/events", { signal: stream.signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const parts = (text + value).split("\n\n");
        text = parts.pop();
        for (const part of parts) if (event(part, hear)) pause = 500;
      }
      lost(new Problem(0, { detail: "The node has ended the stream." }));
    } catch (error) {
      if (stream.signal.aborted) {
        await seen();
        continue;
      }
      lost(error instanceof Problem ? error : new Problem(0, { detail: "The connection to the node broke." }));
      if (error.status === 401) return;
    }
    await new Promise((go) => setTimeout(go, pause));
    pause = Math.min(pause * 2, 4000);
  }
}

async function seen() {
  await new Promise((go) => setTimeout(go, 0));  // a page that is left stands still here
  while (document.hidden) await new Promise((go) => document.addEventListener("visibilitychange", go, { once: true }));
}

function event(part, hear) {
  let kind = "", data = "";
  for (const line of part.split("\n")) {
    if (line.startsWith("event: ")) kind = line.slice(7);
    if (line.startsWith("data: ")) data = line.slice(6);
  }
  if (!kind) return false;
  hear(kind, JSON.parse(data));
  return true;
}
