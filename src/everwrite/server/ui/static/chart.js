// Lines over the last minutes, as SVG: a few hundred points, so nothing cleverer is needed.

import { put, svg } from "./dom.js";
import { SECONDS_MAX } from "./state.js";

const WIDTH = 560, HEIGHT = 170, LEFT = 52, BOTTOM = 20, TOP = 10;
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];

// lines: [{kind: class, points: [[at, value or null]]}]; unit: how a value is told. Values start at 0.
export function chart(label, unit) {
  const body = svg("g");
  const node = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, body);
  node.show = (lines) => {
    const now = performance.now(), all = lines.flatMap(({ points }) => points.map(([, value]) => value)).filter((value) => value !== null && value !== undefined);
    const top = nice(Math.max(...all, 0) || 1);
    const x = (at) => WIDTH - 4 - ((now - at) / 1000 / SECONDS_MAX) * (WIDTH - LEFT - 4);
    const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
    put(body, [
      [0, 0.5, 1].map((part) => [svg("line", { class: "axis", x1: LEFT, x2: WIDTH, y1: y(top * part), y2: y(top * part) }),
        svg("text", { class: "thin", x: LEFT - 6, y: y(top * part) + 4, "text-anchor": "end" }, part ? unit(top * part) : "0")]),
      [300, 240, 180, 120, 60, 0].map((s) => svg("text", { class: "thin", x: x(now - s * 1000), y: HEIGHT - 4, "text-anchor": s === SECONDS_MAX ? "start" : s ? "middle" : "end" }, s ? `-${s / 60} min` : "now")),
      lines.map(({ kind, points }, at) => svg("path", { class: `line ${kind} none`, d: path(points, x, y), "stroke-dasharray": DASHES[at % DASHES.length] })),
    ]);
    const newest = all.length ? lines.map(({ name, points }) => `${name} ${points.length && points.at(-1)[1] !== null && points.at(-1)[1] !== undefined ? unit(points.at(-1)[1]) : "nothing"}`).join(", ") : "nothing yet";
    node.setAttribute("aria-label", `${label}; now: ${newest}`);
  };
  return node;
}

// A line with gaps where nothing is known.
function path(points, x, y) {
  let text = "", pen = false;
  for (const [at, value] of points) {
    if (value === null || value === undefined) {
      pen = false;
      continue;
    }
    text += `${pen ? "L" : "M"}${x(at).toFixed(1)},${y(value).toFixed(1)}`;
    if (!pen) text += "h.1";
    pen = true;
  }
  return text;
}

// The next number of the kind 1, 2, 5 with zeros.
export function nice(value) {
  const ten = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((each) => each * ten).find((each) => each >= value * 0.999);
}
