// Making elements. Whatever comes from users goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  made.append(...children.map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return made;
}

// Columns: [heading, class, value of a row]. The caption is what a screen reader announces the table by.
export function table(label, columns, rows) {
  const cell = (name, kind, value) => element(name, kind ? { class: kind } : {}, value);
  const heads = columns.map(([heading, kind]) => {
    const head = cell("th", kind, heading);
    head.scope = "col";
    return head;
  });
  const body = rows.map((row) => element("tr", {}, ...columns.map(([, kind, value]) => cell("td", kind, value(row)))));
  return element(
    "table",
    { "aria-label": label },
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...body),
  );
}

// Pairs of a term and what is said of it.
export function facts(kind, pairs, grouped) {
  const parts = pairs.map(([term, said]) => [element("dt", {}, term), element("dd", {}, said)]);
  const children = grouped ? parts.map((each) => element("div", {}, ...each)) : parts.flat();
  return element("dl", { class: kind }, ...children);
}

export function number(value, digits = 0) {
  if (value === null || value === undefined) {
    return "–";
  }
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

// Event times may be anything that fits 64 bits.
export function time(ms) {
  if (ms === null || ms === undefined) {
    return "–";
  }
  const moment = new Date(ms);
  return Number.isNaN(moment.getTime()) ? `${ms} ms` : moment.toISOString().slice(0, 19).replace("T", " ");
}

export function span(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const [size, name] = units.find(([each]) => seconds >= each * 2) ?? [0.001, "ms"];
  return `${number(seconds / size, seconds < 120 && size === 1 ? 1 : 0)} ${name}`;
}

// Lets a drawing follow its container's width, and the colours of the page.
export function follow(container, draw) {
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (Math.round(entry.contentRect.width) !== width) {
      width = Math.round(entry.contentRect.width);
      draw(width);
    }
  }).observe(container);
}
