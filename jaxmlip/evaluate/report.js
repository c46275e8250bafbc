"use strict";
// What every report does with scripts on: tables sort by a click on a column's head. Nothing here loads anything.

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

// Numbers come first, then words, then gaps, whichever way the numbers go.
const cellKey = (cell) => {
  const text = cell.textContent.trim();
  if (cell.dataset.value !== undefined) return { rank: 0, value: Number(cell.dataset.value), text };
  return { rank: text === "" || text === "—" ? 2 : 1, value: 0, text };
};

const compareKeys = (a, b, direction) => {
  if (a.rank !== b.rank) return a.rank - b.rank;
  const difference = a.rank === 0 ? a.value - b.value : a.text.localeCompare(b.text, "en", { numeric: true });
  return direction * difference;
};

const sortRows = (body, original, column, direction) => {
  const keyed = original.map((row) => ({ row, key: cellKey(row.cells[column]) }));
  if (direction !== 0) keyed.sort((a, b) => compareKeys(a.key, b.key, direction)); // stable: ties keep their order
  body.append(...keyed.map((one) => one.row));
};

// A head goes from unsorted to ascending to descending and back.
const makeSortable = (table) => {
  const body = table.tBodies[0];
  const original = [...body.rows];
  if (original.length < 2) return;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (head.textContent.trim() === "") return;
    const button = make("button", { type: "button", class: "sort" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")] || "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      if (next !== "none") head.setAttribute("aria-sort", next);
      sortRows(body, original, column, { ascending: 1, descending: -1, none: 0 }[next]);
    });
  });
};

document.documentElement.classList.add("js");
document.querySelectorAll("table").forEach(makeSortable);
