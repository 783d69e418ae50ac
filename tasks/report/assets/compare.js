"use strict";
/* The comparison of two jobs: the videos that changed most, both results in step. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const metric = (at) => data.metrics[at];
  const change = (one, at) => (one.before[at] === null || one.after[at] === null ? null : one.after[at] - one.before[at]);
  const page = (at) => `${address(data.clips[at])}/index.html#${encodeURIComponent(data.labels[at])}`;
  const screen = document.getElementById("player");
  let player = null;
  let chosen = -1;
  async function play(at) {
    if (chosen === at) return;
    chosen = at;
    const folders = [`${address(data.copies)}/${address(data.clips[at])}/${address(data.labels[at])}`, `${address(data.clips[at])}/${address(data.labels[at])}`];
    try {
      const sources = [];
      for (const [number, folder] of folders.entries()) sources.push({ folder, name: data.names[number], data: await loadResult(folder) });
      if (chosen !== at) return;
      if (player) player.close();
      const one = metric(Number(ranked.value));
      const title = [make("h3", {}, make("a", { href: page(at) }, `${data.clips[at]} · ${data.labels[at]}`)),
        make("span", { class: "soft small" }, `${one.name}: ${shown(one.before[at])} → ${shown(one.after[at])} ${one.unit}`)];
      player = new Player(screen, sources, title);
    } catch (error) {
      screen.replaceChildren(make("p", { class: "bad", role: "alert" }, `${error.message}; make the comparison again with recapture report.`));
    }
  }
  const ranked = document.getElementById("ranked");
  data.metrics.forEach((one, at) => ranked.append(make("option", { value: at }, one.name)));
  function table() {
    const one = metric(Number(ranked.value));
    const worse = one.better === false;
    const can = new Set(data.playable);
    const show = (at) => make("button", { type: "button", onclick: () => { play(at); screen.scrollIntoView({ block: "nearest" }); } }, "Show");
    new Sorted(document.getElementById("videos"), {
      rows: data.clips.length, by: 4, descending: worse, keep: (at) => change(one, at) !== null, caption: "Videos of both jobs",
      columns: [
        { title: "clip", value: (at) => data.clips[at], cell: (at) => make("a", { href: page(at) }, data.clips[at]), kind: "name" },
        { title: "trajectory", value: (at) => data.labels[at] },
        { title: "before", number: true, value: (at) => one.before[at] },
        { title: "after", number: true, value: (at) => one.after[at] },
        { title: "difference", number: true, descending: worse, value: (at) => change(one, at) },
        { title: "videos", value: (at) => (can.has(at) ? "" : "–"), cell: (at) => (can.has(at) ? show(at) : "–") },
      ],
    });
  }
  if (data.metrics.length) {
    ranked.addEventListener("change", table);
    table();
  }
  Promise.resolve(data.metrics.length && data.playable.length ? play(data.playable[0]) : null).finally(built);
})();
