// Run inside the page: what a person who sees little, or nothing, would stumble over.
() => {
  const faults = [];
  const isSeen = (element) => {
    if (element.closest("[aria-hidden=true]")) return false;
    const box = element.getBoundingClientRect();
    return element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && box.width > 0;
  };
  const numbers = (text) => text.match(/[\d.]+/g).map(Number);
  const over = (front, back) => {
    const alpha = front[3] ?? 1;
    return [0, 1, 2].map((i) => front[i] * alpha + back[i] * (1 - alpha));
  };
  const ground = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      const style = getComputedStyle(each);
      if (style.backgroundImage !== "none") return null;
      layers.push(numbers(style.backgroundColor));
      if ((layers.at(-1)[3] ?? 1) === 1) break;
    }
    return layers.reduceRight((back, front) => over(front, back), [255, 255, 255]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !isSeen(element) || element.closest("noscript, script, .vh, .skip")) continue;
    const style = getComputedStyle(element);
    const back = ground(element);
    if (!back) continue;
    const ink = over(numbers(element.closest("svg") ? style.fill : style.color), back);
    const [bright, dark] = [light(ink), light(back)].sort((a, b) => b - a);
    const ratio = (bright + 0.05) / (dark + 0.05);
    texts += 1;
    if (ratio < 4.5) faults.push(`contrast ${ratio.toFixed(2)}: ${walker.currentNode.data.trim().slice(0, 40)} (${element.className})`);
  }
  if (texts < 10) faults.push(`only ${texts} texts were judged`);
  const name = (element) => {
    const by = element.getAttribute("aria-labelledby");
    const label = by ? document.getElementById(by)?.textContent : element.getAttribute("aria-label");
    return (label ?? element.textContent).trim();
  };
  for (const element of document.querySelectorAll("a, button, summary, [role=region], section, nav, [role=img]")) {
    if (!name(element)) faults.push(`no name: ${element.outerHTML.slice(0, 90)}`);
  }
  for (const element of document.querySelectorAll("main a, main button, main summary, .tools button")) {
    const box = element.getBoundingClientRect();
    if (isSeen(element) && Math.min(box.width, box.height) < 16) faults.push(`too small to hit: ${name(element)}`);
  }
  let level = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    if (heading.closest("dialog:not([open])")) continue;
    const next = Number(heading.localName[1]);
    if (next > level + 1) faults.push(`heading ${next} after ${level}: ${heading.textContent}`);
    level = next;
  }
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
  for (const tag of ["header.bar", "main", "footer"]) {
    if (document.querySelectorAll(tag).length !== 1) faults.push(`not one ${tag}`);
  }
  for (const table of document.querySelectorAll("main table")) {
    const columns = table.querySelectorAll("thead th[scope=col]").length;
    const rows = [...table.querySelectorAll("tbody tr")];
    if (!columns) faults.push(`table without column headers: ${table.textContent.slice(0, 40)}`);
    if (!rows.every((row) => row.querySelector("th[scope=row]"))) faults.push(`row without header: ${table.textContent.slice(0, 40)}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  if (new Set(ids).size !== ids.length) faults.push(`an id twice: ${ids}`);
  return faults;
}
