"use strict";
(() => {
  const root = document.documentElement;
  const views = [];

  // Says so in the figure itself: whoever reads the page does not look at the console.
  const fail = (figure, error) => {
    console.error(error);
    root.dataset.ready = "failed";
    figure.dataset.failed = "true";
    const line = document.createElement("p");
    line.className = "failed";
    line.textContent = `This chart could not be drawn: ${error && error.message ? error.message : error}`;
    figure.querySelector(".chart").replaceChildren(line);
  };

  // Rows come packed in columns, see packing.py.
  const column = (stored) => (Array.isArray(stored) ? stored : stored.at.map((k) => stored.words[k]));
  const unpacked = (stored) => {
    const columns = Object.entries(stored).map(([name, values]) => [name, column(values)]);
    const count = columns.length ? columns[0][1].length : 0;
    return Array.from({ length: count }, (_, k) =>
      Object.fromEntries(columns.map(([name, values]) => [name, values[k]])),
    );
  };

  // Colours are variables of the style sheet: a theme is an attribute, and nothing is drawn anew.
  const buttons = document.querySelectorAll("[data-set-theme]");
  const choose = (theme) => {
    if (theme === "auto") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", theme);
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.setTheme === theme));
    }
  };
  for (const button of buttons) {
    button.addEventListener("click", () => choose(button.dataset.setTheme));
  }
  choose("auto");

  // Charts that have the same switch follow each other.
  const follow = (view, name) => {
    try {
      view.signal(name);
    } catch {
      return;
    }
    view.addSignalListener(name, (_, value) => {
      for (const other of views) {
        if (other === view) continue;
        try {
          if (other.signal(name) !== value) other.signal(name, value).runAsync();
        } catch {
          // That chart has no such switch.
        }
      }
    });
  };

  // The legend gets as many columns as there is room for: Vega would let it run over the edge.
  const fitLegends = (node, columns) => {
    if (node === null || typeof node !== "object") return;
    if (node.legend) node.legend.columns = columns;
    Object.values(node).forEach((inner) => fitLegends(inner, columns));
  };

  const draw = async (figure, spec) => {
    const room = figure.querySelector(".chart").clientWidth - 48;
    if (spec.usermeta) fitLegends(spec.layer, Math.max(1, Math.floor(room / spec.usermeta.entryPixels)));
    for (const [name, stored] of Object.entries(spec.datasets)) {
      spec.datasets[name] = unpacked(stored);
    }
    const result = await window.vegaEmbed(figure.querySelector(".chart"), spec, {
      mode: "vega-lite",
      renderer: "svg",
      actions: false,
      // Expressions are interpreted, so the page runs under a policy that forbids eval.
      ast: true,
      bind: figure.querySelector(".switches"),
      tooltip: { theme: "custom" },
    });
    views.push(result.view);
    follow(result.view, "axis");
    figure.dataset.drawn = "true";
  };

  // Each chart is parsed and drawn by itself: one that fails leaves the others as they are.
  const drawOrFail = async (figure) => {
    try {
      await draw(figure, JSON.parse(document.getElementById(`spec-${figure.id}`).textContent));
    } catch (error) {
      fail(figure, error);
    }
  };

  Promise.all(Array.from(document.querySelectorAll("figure"), drawOrFail)).then(() => {
    root.dataset.ready ??= "true";
  });
})();
