"use strict";
/* The page of a dataset: the worst videos, and the table of all. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const count = data.clips.length;
  const folder = (at) => `${address(data.clips[at])}/${address(data.labels[at])}`;
  const page = (at) => `${address(data.clips[at])}/index.html#${encodeURIComponent(data.labels[at])}`;
  const name = (at) => `${data.clips[at]} · ${data.labels[at]}`;
  const link = (at) => (data.linked ? make("a", { href: page(at) }, data.clips[at]) : data.clips[at]);

  /* Worst first: a metric without a better side is sorted from large to small. */
  function worst(metric, most) {
    const known = [];
    metric.values.forEach((value, at) => { if (value !== null && data.status[at] === 0) known.push(at); });
    const turn = metric.better === true ? 1 : -1;
    known.sort((a, b) => turn * (metric.values[a] - metric.values[b] || 0) || a - b);
    return known.slice(0, most);
  }

  const reel = document.getElementById("reel");
  const screen = document.getElementById("player");
  let player = null;
  let chosen = -1;
  async function play(at, metric) {
    if (chosen === at) return;
    chosen = at;
    for (const button of reel.querySelectorAll("button")) button.setAttribute("aria-pressed", String(Number(button.dataset.at) === at));
    let found;
    try { found = await loadResult(folder(at), data.clips[at], data.labels[at]); } catch (error) {
      screen.replaceChildren(make("p", { class: "bad", role: "alert" }, `${error.message}; run the job again.`));
      return;
    }
    if (chosen !== at) return;
    if (player) player.close();
    const title = [make("h3", {}, make("a", { href: page(at) }, name(at)))];
    if (metric) title.push(make("span", { class: "soft small" }, `${metric.name} ${shown(metric.values[at])} ${metric.unit}`));
    player = new Player(screen, [{ data: found, folder: folder(at), name: "Result" }], title);
  }

  function reelOf(metric) {
    const places = metric ? worst(metric, 24) : data.status.map((status, at) => (status === 0 ? at : -1)).filter((at) => at >= 0).slice(0, 24);
    reel.replaceChildren(...places.map((at) => make("li", {}, make("button", { type: "button", "aria-pressed": "false", "data-at": at, onclick: () => play(at, metric) },
      make("img", { src: `${folder(at)}/page.jpg`, alt: "", loading: "lazy", width: 128, height: 72 }),
      make("span", {}, data.clips[at], make("br"), data.labels[at]),
      make("b", {}, metric ? `${shown(metric.values[at])} ${metric.unit}` : "")))));
    return places.length ? play(places[0], metric) : null;
  }

  if (data.linked) {
    const ranked = document.getElementById("ranked");
    if (ranked) {
      data.metrics.forEach((metric, at) => ranked.append(make("option", { value: at }, metric.name)));
      ranked.addEventListener("change", () => { chosen = -1; reelOf(data.metrics[Number(ranked.value)]); });
    }
    Promise.resolve(reelOf(data.metrics[0])).finally(built);
  } else built();

  const states = ["delivered", "missing", "dropped"];
  const columns = [
    { title: "clip", value: (at) => data.clips[at], cell: link, kind: "name" },
    { title: "trajectory", value: (at) => data.labels[at] },
    { title: "state", value: (at) => states[data.status[at]], cell: (at) => make("span", { class: data.status[at] === 1 ? "bad" : null, title: data.reasons[at] || null }, states[data.status[at]]) },
    ...data.metrics.map((metric, at) => ({
      title: metric.name + (metric.unit ? ` ${metric.unit}` : ""), hint: metric.definition, number: true, value: (row) => metric.values[row],
      descending: metric.better !== true, hidden: !metric.shown,
    })),
  ];
  const find = document.getElementById("find");
  const state = document.getElementById("state");
  const trajectory = document.getElementById("trajectory");
  for (const label of [...new Set(data.labels)].sort(compareNames)) trajectory.append(make("option", {}, label));
  const lower = data.clips.map((clip) => clip.toLowerCase());
  let wanted = "";
  const keep = (at) => (!wanted || lower[at].includes(wanted)) && (!state.value || states[data.status[at]] === state.value) && (!trajectory.value || data.labels[at] === trajectory.value);
  const ranks = data.metrics.length > 0;
  const table = new Sorted(document.getElementById("videos"), {
    columns, rows: count, keep, by: ranks ? 3 : 0, descending: ranks ? Boolean(columns[3].descending) : false, caption: "Videos",
  });
  find.addEventListener("input", () => { wanted = find.value.trim().toLowerCase(); table.sort(); });
  for (const choice of [state, trajectory]) choice.addEventListener("change", () => table.sort());
  const choices = document.getElementById("columns");
  columns.forEach((column, at) => {
    if (!column.number) return;
    const box = make("input", { type: "checkbox", checked: !column.hidden, onchange: () => {
      if (box.checked) table.hiddenColumns.delete(at); else table.hiddenColumns.add(at);
      table.fill();
    } });
    choices.append(make("label", { title: column.hint }, box, column.title));
  });
})();
