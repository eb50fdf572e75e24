"use strict";
// Sorting and filtering of tables, legends of figures, downloads, the theme, and printing. Without this script the page is complete, but still.

const root = document.documentElement;
root.classList.add("scripted");

function sortable(table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
      for (const each of table.tHead.rows[0].cells) each.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      const compare = head.classList.contains("number") ? byNumber : byWords;
      const order = (one, other) => byColumn(one.cells[column].dataset.value, other.cells[column].dataset.value, compare, sign);
      // The sort is stable, so equal values stay in the report's order.
      body.append(...(next === "none" ? rows : [...rows].sort(order)));
    });
  });
}

const byNumber = (one, other) => Number(one.replace("inf", "Infinity")) - Number(other.replace("inf", "Infinity"));
const byWords = (one, other) => one.localeCompare(other, "en", { numeric: true });

function byColumn(one, other, compare, sign) {
  if (one === "" || other === "") return (one === "") - (other === ""); // missing values are always last
  return sign * compare(one, other);
}

function filterable(part) {
  const box = part.querySelector("[data-filter]");
  const count = part.querySelector("[data-count]");
  const rows = [...part.querySelector("tbody").rows];
  const show = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    const shown = rows.filter((row) => !row.hidden).length;
    const all = `${rows.length} row${rows.length === 1 ? "" : "s"}`;
    count.value = shown === rows.length ? all : `${shown} of ${all}`;
  };
  box.addEventListener("input", show);
  show();
}

function save(name, content, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

function unpacked(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).blob();
}

for (const table of document.querySelectorAll("table")) sortable(table);
for (const part of document.querySelectorAll(".table")) filterable(part);

const held = document.getElementById("files");
if (held) {
  const files = JSON.parse(held.textContent);
  for (const button of document.querySelectorAll("[data-file]")) {
    const name = button.dataset.file;
    const type = name.endsWith(".csv") ? "text/csv" : "application/x-tex";
    button.addEventListener("click", async () => save(name, await unpacked(files.texts[name]), `${type};charset=utf-8`));
  }
  for (const button of document.querySelectorAll("[data-zip]")) {
    button.addEventListener("click", () => save(`${files.name}.zip`, bytes(files.zip), "application/zip"));
  }
}

// The names in a figure's legend are buttons: one name at a time dims the marks of the others.
const colour = (part) => /(?:stroke|fill): (#[0-9a-f]{6})/.exec(part.getAttribute("style") ?? "")?.[1];
function emphasized(svg) {
  const names = new Map();
  for (const legend of svg.querySelectorAll("[id*='-legend_']")) {
    let own;
    for (const part of legend.children) {
      const text = part.querySelector("text");
      if (text && own) names.set(text, own);
      own = text ? undefined : [...part.querySelectorAll("[style]")].map(colour).find(Boolean) ?? own;
    }
  }
  const colours = new Set(names.values());
  if (colours.size < 2) return;
  svg.setAttribute("role", "group");
  const marks = [...svg.querySelectorAll("[style]")].filter((part) => colours.has(colour(part)) && !part.closest("[id*='-legend_']"));
  for (const [text, own] of names) {
    const toggle = () => {
      const chosen = text.getAttribute("aria-pressed") === "false";
      for (const each of names.keys()) each.setAttribute("aria-pressed", chosen && each === text);
      for (const part of marks) part.classList.toggle("dimmed", chosen && colour(part) !== own);
    };
    for (const [key, value] of Object.entries({ role: "button", tabindex: 0, "aria-pressed": false })) text.setAttribute(key, value);
    text.addEventListener("click", toggle);
    text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      toggle();
    });
  }
}
document.querySelectorAll("figure > svg").forEach(emphasized);

const theme = document.getElementById("theme");
const following = { system: "light", light: "dark", dark: "system" };
function show(name) {
  if (name === "system") delete root.dataset.theme;
  else root.dataset.theme = name;
  theme.textContent = `Theme: ${name}`;
}
function stored(name) {
  // A browser may forbid storage to files.
  try {
    if (name) localStorage.setItem("theme", name);
    return localStorage.getItem("theme");
  } catch {
    return name;
  }
}
let chosen = stored() in following ? stored() : "system";
show(chosen);
theme.addEventListener("click", () => {
  chosen = following[chosen];
  stored(chosen);
  show(chosen);
});

// Older browsers print a closed part closed.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const part of closed) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of closed) part.open = false;
});
