// Elements from plain data. Text goes in as text and as nothing else: a key or a value may hold anything.

const SVG = "http://www.w3.org/2000/svg";

export function el(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  put(node, children);
  return node;
}

// Replace what is in a node.
export function put(node, children) {
  node.replaceChildren(...[children].flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false)
    .map((each) => (each instanceof Node ? each : document.createTextNode(String(each)))));
  return node;
}

// Set a text only if it is another one: what is selected or focused stays so.
export function say(node, text) {
  const said = String(text);
  if (node.textContent !== said) node.textContent = said;
  return node;
}

// Set a class only if it is another one.
export function dress(node, name) {
  if (node.getAttribute("class") !== name) node.setAttribute("class", name);
  return node;
}

// Keep one child for each item, in their order: made once, then brought up to date in place.
export function keep(parent, items, keyOf, make, update) {
  const there = parent.kept || (parent.kept = new Map());
  const left = new Set(there.keys());
  let before = null;
  for (const item of items) {
    const key = keyOf(item);
    left.delete(key);
    let child = there.get(key);
    if (!child) {
      child = make(item);
      there.set(key, child);
    }
    if (update) update(child, item);
    const next = before ? before.nextSibling : parent.firstChild;
    if (next !== child) parent.insertBefore(child, next);
    before = child;
  }
  for (const key of left) {
    there.get(key).remove();
    there.delete(key);
  }
}

// A table whose cells are brought up to date in place: columns are [head, text or node of an item, class].
export function table(columns, caption) {
  const body = el("tbody");
  const node = el("div", { class: "scroll" }, el("table", { "aria-label": caption },
    el("thead", null, el("tr", null, columns.map(([head, , kind]) => el("th", { scope: "col", class: kind }, head)))),
    body));
  node.show = (items, keyOf) => keep(body, items, keyOf,
    () => el("tr", null, columns.map(([, , kind]) => el("td", { class: kind }))),
    (row, item) => columns.forEach(([, of], at) => {
      const cell = row.children[at], told = of(item);
      if (told instanceof Node || Array.isArray(told)) put(cell, told);
      else say(cell, told);
    }));
  return node;
}
