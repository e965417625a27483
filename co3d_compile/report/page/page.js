"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const graph = $("graph");
  const rows = [...graph.querySelectorAll(".rows > .row")];
  const links = JSON.parse($("data").textContent);
  const around = rows.map((row) => ("around" in row.dataset ? Number(row.dataset.around) : null));
  const isModule = (row) => row.classList.contains("module");
  const isOpen = (row) => row.firstElementChild.getAttribute("aria-expanded") === "true";

  // --- colours ---------------------------------------------------------------------------------------------------
  const theme = $("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const showTheme = () => {
    const dark = chosen === null ? prefersDark.matches : chosen;
    document.documentElement.style.colorScheme = chosen === null ? "" : dark ? "dark" : "light";
    theme.setAttribute("aria-pressed", String(dark));
  };
  theme.addEventListener("click", () => {
    chosen = !(chosen === null ? prefersDark.matches : chosen);
    showTheme();
  });
  prefersDark.addEventListener("change", showTheme);

  // --- rows that open --------------------------------------------------------------------------------------------
  const showRows = () => {
    rows.forEach((row, number) => {
      const outer = around[number] === null ? null : rows[around[number]];
      row.hidden = outer !== null && (outer.hidden || !isOpen(outer));
    });
    showAmounts();
    drawLinks();
  };
  const open = (row, opened) => {
    row.firstElementChild.setAttribute("aria-expanded", String(opened));
    if (!isModule(row)) row.querySelector(".facts").hidden = !opened;
  };
  const openModules = (opened) => {
    rows.filter(isModule).forEach((row) => open(row, opened));
    showRows();
  };
  rows.forEach((row) => {
    row.firstElementChild.addEventListener("click", () => {
      open(row, !isOpen(row));
      showRows();
    });
  });
  $("unfold").addEventListener("click", () => openModules(true));
  $("fold").addEventListener("click", () => openModules(false));

  // The longest bar is that of the largest row in sight; of an open module, its rows are in sight and not itself.
  const showAmounts = () => {
    const seen = rows.filter((row) => !row.hidden && !(isModule(row) && isOpen(row)));
    for (const kind of ["work", "state"]) {
      const shares = seen.map((row) => Number(row.querySelector("." + kind).style.getPropertyValue("--share")));
      graph.style.setProperty("--top-" + kind, String(Math.max(...shares, 1e-9)));
    }
  };

  // --- links between rows ----------------------------------------------------------------------------------------
  const inSight = (number) => {
    while (rows[number].hidden) number = around[number];
    return number;
  };
  const drawLinks = () => {
    const paths = new Map();
    const frame = graph.getBoundingClientRect();
    const strips = rows.map((row) => (row.hidden ? null : row.querySelector(".strip").getBoundingClientRect()));
    const place = strips.map((strip) => strip && (strip.top + strip.bottom) / 2 - frame.top - graph.clientTop);
    const next = new Map();
    let last = null;
    rows.forEach((row, number) => {
      if (row.hidden || (isModule(row) && isOpen(row))) return;
      if (last !== null) next.set(last, number);
      last = number;
    });
    for (const [maker, reader, at, waits] of links) {
      const from = inSight(maker);
      const to = inSight(reader);
      if (from === to) continue;
      const x = (strips[from].left - frame.left - graph.clientLeft + at * strips[from].width).toFixed(1);
      const shown = waits && to === reader ? "waits" : next.get(from) === to ? "" : "skips";
      paths.set(`M${x} ${place[from] + (from < to ? 8 : -8)}V${place[to]}`, shown);
    }
    $("links").replaceChildren(
      ...[...paths].map(([d, shown]) => {
        const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
        path.setAttribute("d", d);
        if (shown) path.setAttribute("class", shown);
        return path;
      }),
    );
  };
  new ResizeObserver(drawLinks).observe(graph);

  // --- the table -------------------------------------------------------------------------------------------------
  const table = $("layers");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const value = (cell) => cell.dataset.value ?? cell.textContent;
  heads.forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => {
      const falls = head.getAttribute("aria-sort") === "ascending";
      const numeric = head.classList.contains("numeric");
      const compare = (a, b) => (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
      const sorted = [...body.rows].sort((a, b) => compare(value(a.cells[column]), value(b.cells[column])));
      body.append(...(falls ? sorted.reverse() : sorted));
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", falls ? "descending" : "ascending");
    });
  });
  $("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    const named = (row) => `${row.cells[1].textContent} ${row.cells[2].textContent}`.toLowerCase();
    for (const row of body.rows) row.hidden = !named(row).includes(wanted);
    const count = [...body.rows].filter((row) => !row.hidden).length;
    $("found").textContent = count === 1 ? "1 layer" : `${count} layers`;
  });

  showTheme();
  showRows();
})();
