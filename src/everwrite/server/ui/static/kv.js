// Reads and writes of one key, as every HTTP client makes them: what was seen goes with what is written.

import { ask, pathOf } from "./feed.js";

const path = (bucket, key, more = "") => `${pathOf("/v1/kv/", bucket, key)}?key_encoding=base64url${more}`;

// All that a key holds: {siblings, context, quality, absent}; none if it is absent.
export async function read(bucket, key, more = "") {
  const response = await ask(path(bucket, key, `&format=envelope${more}`), {}, [404]);
  const document = await response.json();
  const context = document.context || response.headers.get("causal-context") || "";
  return { siblings: document.siblings || [], context, quality: document.quality || null, absent: document.absent || "" };
}

// Write a value over what the context has seen; {siblings, replicas} says how that went.
export async function write(bucket, key, body, context, type = "application/json") {
  return told(await ask(path(bucket, key), { method: "PUT", body, headers: { "Content-Type": type, ...seen(context) } }));
}

export async function remove(bucket, key, context) {
  return told(await ask(path(bucket, key), { method: "DELETE", headers: seen(context) }));
}

const seen = (context) => (context ? { "Causal-Context": context } : {});

function told(response) {
  const replicas = {};
  for (const part of (response.headers.get("replicas") || "").split(", ")) {
    const [name, number] = part.split("=");
    replicas[name] = Number(number);
  }
  return { siblings: Number(response.headers.get("siblings")), replicas, context: response.headers.get("causal-context") || "" };
}

// A value as a person reads it.
export function textOf(sibling) {
  if (sibling.value_b64 !== undefined) return `base64: ${sibling.value_b64}`;
  return typeof sibling.value === "string" ? sibling.value : JSON.stringify(sibling.value);
}

// A sibling as it has to be written to be kept: [body, content type].
export function again(sibling) {
  if (sibling.value_b64 !== undefined) {
    const binary = atob(sibling.value_b64.replaceAll("-", "+").replaceAll("_", "/"));
    return [Uint8Array.from(binary, (letter) => letter.charCodeAt(0)), sibling.content_type];
  }
  const isJson = /[/+]json\b/.test(sibling.content_type);
  return [isJson ? JSON.stringify(sibling.value) : sibling.value, sibling.content_type];
}

// All items of lists, each once, in their order; null if something is no list.
export function union(siblings) {
  if (!siblings.every(({ value }) => Array.isArray(value))) return null;
  const found = new Map();
  for (const { value } of siblings) for (const item of value) found.set(JSON.stringify(item), item);
  return [...found.values()];
}
