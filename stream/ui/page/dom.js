// A small virtual DOM: describe what should be there, and only the difference is changed.
//
// The page is drawn anew each second; elements stay the same ones, so that focus, selection, open
// <details> and scroll positions survive. All text becomes text nodes and nothing ever becomes
// HTML, so a raw record from the internet cannot be more than text.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set("svg g path line rect circle text polyline title".split(" "));

/** An element to be: `h("td.num", {title: "…"}, "text", child, [children], null)`. */
export function h(name, props, ...children) {
  const [tag, ...classes] = name.split(".");
  const own = { ...props };
  if (classes.length) own.class = [...classes, own.class].filter(Boolean).join(" ");
  return { tag, key: own.key, props: own, children: flat(children) };
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Make the children of `parent` those that are described. */
export function render(parent, ...described) {
  reconcile(parent, flat(described));
}

function reconcile(parent, wanted) {
  const byKey = new Map();
  for (const node of parent.childNodes) if (node.headraceKey !== undefined) byKey.set(node.headraceKey, node);
  let place = parent.firstChild;
  for (const item of wanted) {
    const found = match(item, place, byKey);
    const node = found ?? create(item, parent);
    if (found) update(node, item);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function match(item, place, byKey) {
  if (typeof item !== "object") return place?.nodeType === Node.TEXT_NODE ? place : null;
  if (item.key !== undefined) {
    const node = byKey.get(item.key);
    return node?.localName === item.tag ? node : null;
  }
  const fits = place?.nodeType === Node.ELEMENT_NODE && place.localName === item.tag;
  return fits && place.headraceKey === undefined ? place : null;
}

function create(item) {
  if (typeof item !== "object") return document.createTextNode(String(item));
  const node = SVG_TAGS.has(item.tag) ? document.createElementNS(SVG, item.tag) : document.createElement(item.tag);
  if (item.key !== undefined) node.headraceKey = item.key;
  node.headraceProps = {};
  update(node, item);
  return node;
}

function update(node, item) {
  if (typeof item !== "object") {
    if (node.data !== String(item)) node.data = String(item);
    return;
  }
  const before = node.headraceProps ?? {};
  for (const name of Object.keys(before)) if (!(name in item.props)) setProp(node, name, null, before[name]);
  for (const [name, value] of Object.entries(item.props)) setProp(node, name, value, before[name]);
  node.headraceProps = item.props;
  reconcile(node, item.children);
}

function setProp(node, name, value, before) {
  if (name === "key") return;
  if (name === "on") {
    // Listeners are looked up when the event comes, so a new drawing needs no new listeners.
    for (const type of Object.keys(value ?? {})) {
      if (!node.headraceTypes?.has(type)) {
        (node.headraceTypes ??= new Set()).add(type);
        node.addEventListener(type, (event) => node.headraceProps.on?.[type]?.(event));
      }
    }
    return;
  }
  if (name === "style") {
    for (const [property, text] of Object.entries(value ?? {})) {
      if (before?.[property] !== text) node.style.setProperty(property, text);
    }
    return;
  }
  if (value === before) return;
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : String(value));
}

/** Text in which what stands between `backticks` is code. */
export function prose(text) {
  return text.split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));
}

/** An address from outside as a link target: http and https only, else none. */
export function safeUrl(text) {
  try {
    const url = new URL(text);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}
