// Numbers and states as a person says them.

export const number = (value) => Math.round(value).toLocaleString("en");
export const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

// n2 before n10.
export const byName = (a, b) => a.localeCompare(b, "en", { numeric: true });

export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (bytes >= 1024 && at < units.length - 1) {
    bytes /= 1024;
    at += 1;
  }
  return `${bytes < 10 && at ? bytes.toFixed(1) : Math.round(bytes)} ${units[at]}`;
}

export function ago(ms) {
  if (ms === null || ms === undefined) return "-";
  const s = ms / 1000;
  if (s < 1) return `${Math.round(ms)} ms`;
  if (s < 90) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} days`;
}

// A latency in milliseconds.
export function took(ms) {
  if (ms === null) return "-";
  if (ms < 1) return ms === 0 ? "under 1 ms" : `${ms.toFixed(2)} ms`;
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${number(ms)} ms`;
}

export const SHAPES = { up: "\u25cf", self: "\u25cf", slow: "\u25d0", down: "\u2715", silent: "\u2715" };
export const KINDS = { up: "good", self: "good", slow: "warn", down: "bad", silent: "bad" };

export function cut(text, most) {
  return text.length > most ? `${text.slice(0, most)} ... (${number(text.length - most)} characters more)` : text;
}

// [kind, sentence, more sentences]: what an operator wants to know first.
export function verdict(cluster) {
  const { nodes } = cluster;
  const told = nodes.filter((each) => each.said);
  if (!told.length) return ["bad", "No node says anything.", []];
  const down = nodes.filter((each) => !each.said).map((each) => each.name);
  const more = [];
  const blocked = told.filter((each) => each.said.blocked.length);
  const unseen = told.flatMap((each) => each.said.nodes
    .filter((peer) => peer.state === "down" && !down.includes(peer.name)).map((peer) => [each.name, peer.name]));
  if (down.length) more.push(`${down.join(", ")} ${down.length > 1 ? "do" : "does"} not answer. Others stand in, and keep hints.`);
  if (blocked.length) more.push("Links are cut on purpose: each side goes on by itself.");
  else if (unseen.length) more.push(`${unseen.slice(0, 3).map(([a, b]) => `${a} does not see ${b}`).join("; ")}.`);
  const hints = told.reduce((sum, each) => sum + each.said.hints.waiting, 0);
  if (hints) more.push(`${count(hints, "hint")} ${hints === 1 ? "waits" : "wait"} to be brought home.`);
  const full = told.filter((each) => each.said.hints.full).map((each) => each.name);
  if (full.length) more.push(`${full.join(", ")} can keep no more hints: writes that need one there are refused.`);
  const moves = told.reduce((sum, each) => sum + each.said.moves_count, 0);
  if (moves) more.push(`${count(moves, "move")} of partitions under way.`);
  const wrong = told.filter((each) => each.said.clock.wrong).map((each) => each.name);
  if (wrong.length) more.push(`The clock of ${wrong.join(", ")} is wrong.`);
  const unready = told.filter((each) => !each.said.node.ready).map((each) => each.name);
  if (unready.length) more.push(`${unready.join(", ")} ${unready.length > 1 ? "are" : "is"} starting.`);
  if (!more.length && nodes.length === 1) return ["good", "The only node is up; there is one copy of each key.", []];
  if (!more.length) return ["good", `All ${nodes.length} nodes are up, and all copies are where they belong.`, []];
  const grave = full.length || told.length * 2 <= nodes.length;
  const sentence = told.length < nodes.length
    ? `${told.length} of ${nodes.length} nodes are up; the cluster takes reads and writes.`
    : blocked.length || unseen.length ? "All nodes are up, and not all see each other." : "All nodes are up; there is work to be done.";
  return [grave ? "bad" : "warn", grave && !full.length ? `Only ${told.length} of ${nodes.length} nodes are up.` : sentence, more];
}
