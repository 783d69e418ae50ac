"use strict";
/* The page of a clip: its trajectories, one at a time. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const screen = document.getElementById("player");
  const panels = [...document.querySelectorAll("[data-label]")];
  const tabs = [...document.querySelectorAll(".tabs button")];
  const loaded = [];
  let player = null;
  async function choose(label) {
    const at = Math.max(0, data.labels.indexOf(label));
    tabs.forEach((tab, number) => tab.setAttribute("aria-pressed", String(number === at)));
    panels.forEach((panel, number) => { panel.hidden = number !== at; });
    if (player) player.close();
    player = null;
    screen.replaceChildren();
    if (!data.delivered[at]) return;
    const folder = address(data.labels[at]);
    let found = loaded[at];
    try { found = found || (await loadResult(folder, data.clip, data.labels[at])); } catch (error) {
      screen.replaceChildren(make("p", { class: "bad", role: "alert" }, `${error.message}; run the job again.`));
      return;
    }
    loaded[at] = found;
    player = new Player(screen, [{ data: found, folder, name: "Result" }], []);
  }
  tabs.forEach((tab, at) => tab.addEventListener("click", () => {
    history.replaceState(null, "", `#${encodeURIComponent(data.labels[at])}`);
    choose(data.labels[at]);
  }));
  const asked = () => choose(decodeURIComponent(location.hash.slice(1)));
  addEventListener("hashchange", asked);
  asked().finally(built);
})();
