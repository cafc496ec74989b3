// The data browser: keys of a bucket, in the order of the ring, and what one of them holds.

import { el, keep, put, say } from "./dom.js";
import { ask, base64url } from "./feed.js";
import { read, textOf } from "./kv.js";
import { cut, number } from "./words.js";

const KEYS_MAX = 500, VALUE_MAX = 4096;

export function browseView() {
  const bucket = el("input", { id: "browse-bucket", size: 14, value: "carts", required: true }), prefix = el("input", { id: "browse-prefix", size: 14 });
  const said = el("p", { role: "status" }), list = el("ul", { class: "log", id: "keys-found" }), value = el("div", { id: "browsed" });
  const more = el("button", { type: "button", hidden: true, onclick: () => go(false) }, "More");
  let found = [];
  const node = el("section", { "aria-label": "Data" }, el("h2", null, "Data browser"),
    el("p", { class: "soft" }, `Looking reads the whole ring, whatever the bucket: not for the way of a request. At most ${KEYS_MAX} keys at a time.`),
    el("form", { class: "row", onsubmit: (event) => {
      event.preventDefault();
      go(true);
    } }, el("label", { for: "browse-bucket" }, "Bucket ", bucket), el("label", { for: "browse-prefix" }, "Keys that begin with ", prefix), el("button", { class: "main", id: "data-look" }, "Look")),
    said, el("div", { class: "split" }, el("div", null, list, more), value));
  node.update = () => {};

  async function go(anew) {
    if (anew) found = [];
    const query = new URLSearchParams({ limit: KEYS_MAX });
    if (prefix.value) query.set("prefix", base64url(prefix.value));
    if (found.length) query.set("after", found.at(-1).code);
    query.set("key_encoding", "base64url");
    say(said, "Looking ...");
    try {
      const lines = (await (await ask(`/v1/kv/${encodeURIComponent(bucket.value)}?${query}`)).text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
      const end = lines.pop();
      found = found.concat(lines.map(({ key, key_b64: code }) => ({ text: code ? `base64: ${code}` : key, key, code: code || base64url(key) })));
      if (end.problem) say(said, `${end.problem.detail} ${end.problem.hint || ""}`);
      else say(said, `${number(found.length)} ${found.length === 1 ? "key" : "keys"}${end.end ? "." : ", and there are more."}`);
      more.hidden = Boolean(end.end || end.problem);
    } catch (problem) {
      say(said, `${problem.message} ${problem.hint || ""}`);
    }
    keep(list, found, ({ code }) => code, (item) => el("li", null, el("button", { type: "button", onclick: () => show(item) }, cut(item.text, 200))));
  }

  async function show({ text, key }) {
    if (key === undefined) {
      put(value, el("p", null, "This key is no text: look at it with curl and key_encoding=base64url."));
      return;
    }
    try {
      const it = await read(bucket.value, key);
      put(value, el("div", { class: "card" }, el("h3", { class: "mono" }, cut(text, 200)),
        it.siblings.length ? it.siblings.map((sibling) => el("p", null, el("code", null, cut(textOf(sibling), VALUE_MAX)),
          el("span", { class: "soft" }, ` ${sibling.content_type} ${sibling.modified || ""}`))) : el("p", null, `Absent: ${it.absent}.`),
        el("a", { href: `#walk/${encodeURIComponent(bucket.value)}/${encodeURIComponent(key)}` }, "Walk to it")));
    } catch (problem) {
      put(value, el("p", { class: "bad" }, problem.message));
    }
  }
  return node;
}
