// The frames that views are made of: a titled panel, a table with real headers.

import { h } from "./dom.js";

/** A section with a heading that names it. */
export function panel(id, title, content, aside = null) {
  return h("section.panel", { "aria-labelledby": `${id}-title`, key: id, "data-panel": id },
    h("div.head", {}, h("h2", { id: `${id}-title` }, title), aside), content);
}

/** `columns`: [title, class]; `rows`: {key, cells}. The first cell of a row is its header. */
export function table(caption, columns, rows) {
  return h("div.scroll", { tabindex: 0, role: "region", "aria-label": caption },
    h("table", {},
      h("caption.vh", {}, caption),
      h("thead", {}, h("tr", {}, columns.map(([title, kind = ""]) => h("th", { scope: "col", class: kind }, title)))),
      h("tbody", {}, rows.map((row) => h("tr", { key: row.key }, row.cells.map((cell, at) => {
        const kind = columns[at][1] ?? "";
        return at === 0 ? h("th", { scope: "row", class: kind }, cell) : h("td", { class: kind }, cell);
      }))))));
}
