"use strict";
/* One player: every picture is a part of one video (page.mp4), so pictures are always in step.
   The videos of two jobs are two files; they are held within a frame of each other. */
const NAMES = { result: "Result", source: "Source", render: "Known part", visible: "Invented", truth: "Truth" };
const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes = {}, ...inside) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...inside);
  return node;
}

function draw(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (parent) parent.append(node);
  return node;
}

/* The path of a folder in an address: names may hold any sign. */
function address(path) {
  return path.split("/").map(encodeURIComponent).join("/");
}

function shown(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  const text = size >= 1000 ? size.toFixed(0) : size >= 10 ? size.toFixed(1) : size >= 0.01 || size === 0 ? String(Number(size.toPrecision(3))) : size.toExponential(1);
  return (value < 0 && Number(text) !== 0 ? "−" : "") + text;
}

/* Scripts of results announce themselves here, in the order in which they were asked for. */
const waiting = [];
const first = [];
function recapturePage(data) {
  const next = waiting.shift();
  if (next) next(data);
  else first.push(data); // of the video that is shown at once: a script of the page itself
}
function loadResult(folder, clip, label) {
  const known = first.find((data) => data.clip === clip && data.label === label);
  if (known) return Promise.resolve(known);
  const load = () => new Promise((resolve, reject) => {
    waiting.push(resolve);
    const script = make("script", { src: `${folder}/page.js` });
    script.addEventListener("error", () => {
      waiting.splice(waiting.indexOf(resolve), 1);
      reject(new Error(`${decodeURI(folder)}/page.js cannot be read`));
    });
    script.addEventListener("load", () => script.remove());
    document.head.append(script);
  });
  loadResult.last = (loadResult.last || Promise.resolve()).then(load, load);
  return loadResult.last;
}

/* The page is built; show it. */
function built() { document.documentElement.classList.remove("building"); }

class Player {
  /* sources: [{data, folder, name}]; the first leads. title: nodes above the pictures. */
  constructor(root, sources, title) {
    this.root = root;
    this.sources = sources;
    this.data = sources[0].data;
    this.frame = 0;
    this.wanted = null;
    this.wipe = { kind: "", at: 0.5 };
    this.overlay = false;
    this.cells = [];
    const { size } = this.data;
    root.replaceChildren();
    root.classList.add("player");
    root.style.setProperty("--ar", size[0] / size[1]);
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Player");
    for (const source of sources) this.open(source);
    root.append(make("div", { class: "head" }, ...title));
    this.lay();
    root.onkeydown = (event) => this.key(event);
    this.show(Math.floor(this.data.frames / 2));
  }

  open(source) {
    source.video = make("video", { muted: true, playsinline: true, preload: "auto", src: `${source.folder}/page.mp4`, tabindex: -1 });
    source.video.muted = true;
    source.video.loop = true;
  }

  get video() { return this.sources[0].video; }
  get last() { return this.data.frames - 1; }
  get playing() { return !this.video.paused; }

  lay() {
    const two = this.sources.length > 1;
    const main = this.data.kinds[0];
    const stage = make("div", { class: two ? "stage two" : "stage" });
    if (two) for (const source of this.sources) stage.append(this.cell(source, main, source.name, true));
    else stage.append(this.cell(this.sources[0], main, NAMES[main], true));
    const others = this.data.kinds.slice(1);
    const above = two ? [] : others.splice(0, Math.min(2, others.length));
    for (const kind of above) stage.append(this.cell(this.sources[0], kind, NAMES[kind]));
    const beside = make("div", { class: "beside" });
    for (const kind of others) beside.append(this.cell(this.sources[0], kind, NAMES[kind]));
    beside.append(this.paths(others.length % 3 === 1));
    this.root.append(stage, this.controls(main), this.timeline(), beside);
    for (const source of this.sources) this.listen(source);
  }

  cell(source, kind, name, large) {
    const [width, height] = source.data.size;
    const canvas = make("canvas", { width, height, role: "img", "aria-label": name, onclick: () => this.toggle() });
    const place = source.data.kinds.indexOf(kind);
    const cell = { source, kind, canvas, place, context: canvas.getContext("2d"), large };
    if (large) canvas.addEventListener("pointermove", (event) => this.drag(event));
    this.cells.push(cell);
    return make("figure", { class: large ? "cell large" : "cell" }, canvas, make("figcaption", {}, name));
  }

  controls(main) {
    const step = (by) => () => { this.pause(); this.show(this.frame + by); };
    this.button = make("button", { type: "button", onclick: () => this.toggle() }, "Play");
    this.button.style.minWidth = "72px";
    this.said = make("output", { "aria-live": "off" });
    const speed = make("select", { "aria-label": "Speed", onchange: (event) => this.speed(Number(event.target.value)) });
    for (const value of [0.25, 0.5, 1]) speed.append(make("option", { value, selected: value === 1 }, `${value}×`));
    const over = make("input", { type: "checkbox", onchange: (event) => { this.overlay = event.target.checked; this.paint(); } });
    this.over = over;
    const wipe = make("select", { onchange: (event) => this.setWipe(event.target.value) }, make("option", { value: "" }, "off"));
    const kinds = this.sources.length > 1 ? [] : this.data.kinds.filter((kind) => kind !== main && kind !== "visible");
    for (const kind of kinds) wipe.append(make("option", { value: kind }, NAMES[kind].toLowerCase()));
    this.wiper = make("input", { type: "range", class: "wipe", min: 0, max: 100, value: 50, "aria-label": "Wipe position", hidden: true, oninput: (event) => { this.wipe.at = event.target.value / 100; this.paint(); } });
    const row = make("div", { class: "controls row" }, this.button,
      make("button", { type: "button", onclick: step(-1), "aria-label": "Previous frame" }, "‹"),
      make("button", { type: "button", onclick: step(1), "aria-label": "Next frame" }, "›"),
      this.said, speed, make("label", {}, over, "tint what was invented"));
    if (kinds.length) row.append(make("label", {}, "wipe to", wipe), this.wiper);
    return row;
  }

  timeline() {
    const block = make("div", { class: "timeline" });
    this.cursors = [];
    this.strips = [];
    const curves = [["holes", "Invented, % of the picture", 100, "var(--accent)"], ["seams", "Step at seams, levels", 1, "var(--known)"]];
    for (const [name, title, scale, colour] of curves) {
      const values = this.data[name].map((value) => (value === null ? null : value * scale));
      if (values.some((value) => value !== null)) block.append(this.strip(title, values, colour));
    }
    this.slider = make("input", {
      type: "range", min: 0, max: this.last, step: 1, value: 0, "aria-label": "Frame",
      oninput: (event) => { this.pause(); this.show(Number(event.target.value)); },
    });
    block.append(this.slider);
    return block;
  }

  strip(title, values, colour) {
    const known = values.filter((value) => value !== null);
    const top = Math.max(...known, 1e-9);
    const low = Math.min(0, ...known);
    const height = (value) => 100 - (92 * (value - low)) / (top - low);
    const picture = draw("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" });
    const across = (at) => (1000 * at / Math.max(1, this.last)).toFixed(1); // about a pixel a unit: strokes are not distorted
    let line = "";
    values.forEach((value, at) => { if (value !== null) line += `${line && values[at - 1] !== null ? "L" : "M"}${across(at)} ${height(value).toFixed(2)}`; });
    if (known.length === values.length) draw("path", { d: `${line}L${across(this.last)} ${height(0)}L0 ${height(0)}Z`, fill: colour, opacity: 0.16 }, picture);
    draw("path", { d: line, fill: "none", stroke: colour, "stroke-width": 1.5, "vector-effect": "non-scaling-stroke", "stroke-linejoin": "round" }, picture);
    const said = make("span", {});
    const cursor = make("i", {});
    this.cursors.push(cursor);
    this.strips.push({ said, title, values, top });
    const strip = make("div", { class: "strip" }, picture, said, cursor);
    const seek = (event) => {
      const box = strip.getBoundingClientRect();
      this.pause();
      this.show(Math.round(((event.clientX - box.left) / box.width) * this.last));
    };
    strip.addEventListener("pointerdown", (event) => { strip.setPointerCapture(event.pointerId); seek(event); });
    strip.addEventListener("pointermove", (event) => { if (event.buttons) seek(event); });
    return strip;
  }

  /* The camera paths from above and from behind, in depths of the pivot. */
  paths(wide) {
    const { cameras } = this.data;
    const picture = draw("svg", { viewBox: "0 0 400 200", role: "img", "aria-label": "Camera paths from above and from behind: grey the source's, coloured the new one" });
    this.dots = [];
    const views = [["from above", 0, 2, -1, 100], ["from behind", 0, 1, 1, 300]];
    for (const [title, across, up, sign, centre] of views) {
      const all = [...cameras.source.at, ...cameras.result.at];
      const spans = [across, up].map((axis) => all.map((at) => at[axis]));
      const ends = spans.map((values) => [Math.min(...values), Math.max(...values)]);
      const span = Math.max(...ends.map(([low, high]) => high - low), 0.02);
      const scale = 130 / span;
      const place = (at) => [
        centre + (at[across] - (ends[0][0] + ends[0][1]) / 2) * scale,
        104 + sign * (at[up] - (ends[1][0] + ends[1][1]) / 2) * scale,
      ];
      const text = draw("text", { x: centre, y: 19, "text-anchor": "middle" }, picture);
      text.textContent = title;
      for (const [name, colour] of [["source", "var(--known)"], ["result", "var(--accent)"]]) {
        const points = cameras[name].at.map((at) => place(at).map((value) => value.toFixed(1)).join(" "));
        draw("path", { d: `M${points.join("L")}`, fill: "none", stroke: colour, "stroke-width": 1.5, "stroke-linejoin": "round", opacity: 0.75 }, picture);
        const look = draw("line", { stroke: colour, "stroke-width": 1.5, opacity: 0.8 }, picture);
        this.dots.push({ dot: draw("circle", { r: 4, fill: colour }, picture), look, place, way: cameras[name], across, up, sign });
      }
      const unit = [10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005].find((size) => size * scale <= 70);
      draw("path", { d: `M${centre - (unit * scale) / 2} 180h${unit * scale}`, stroke: "var(--soft)", "stroke-width": 1 }, picture);
      const said = draw("text", { x: centre, y: 194, "text-anchor": "middle" }, picture);
      said.textContent = `${unit} of the pivot's depth`;
    }
    return make("figure", { class: wide ? "plot wide" : "plot" }, picture);
  }

  listen(source) {
    const { video } = source;
    const follow = () => {
      if (source === this.sources[0] && this.playing) this.arrive(Math.floor(video.currentTime * this.data.fps + 1e-3));
      this.paint(source);
    };
    if (video.requestVideoFrameCallback) {
      const again = (now, { mediaTime }) => {
        if (source === this.sources[0] && this.playing) this.arrive(Math.round(mediaTime * this.data.fps));
        this.paint(source);
        video.requestVideoFrameCallback(again);
      };
      video.requestVideoFrameCallback(again);
    } else video.addEventListener("timeupdate", follow);
    video.addEventListener("loadeddata", () => { this.seek(source); this.paint(source); });
    video.addEventListener("seeked", () => {
      this.paint(source);
      if (!this.playing) this.seek(source);
    });
    video.addEventListener("error", () => this.fail(source));
    if (source === this.sources[0]) {
      video.addEventListener("play", () => { this.button.textContent = "Pause"; });
      video.addEventListener("pause", () => { this.button.textContent = "Play"; });
    }
  }

  fail(source) {
    if (!source.failed) this.root.append(make("p", { class: "bad", role: "alert" }, `${decodeURI(source.folder)}/page.mp4 cannot be played; run the job again.`));
    source.failed = true;
  }

  /* Ask a paused video for the frame that is wanted, unless it is busy or there already. */
  seek(source) {
    const time = (Math.min(this.frame, source.data.frames - 1) + 0.5) / source.data.fps;
    if (source.video.readyState >= 1 && !source.video.seeking && Math.abs(source.video.currentTime - time) > 1e-4) source.video.currentTime = time;
  }

  show(frame) {
    this.arrive(Math.max(0, Math.min(this.last, frame)));
    for (const source of this.sources) this.seek(source);
  }

  /* The leading video shows this frame. */
  arrive(frame) {
    this.frame = Math.min(frame, this.last);
    const share = this.last ? (100 * this.frame) / this.last : 0;
    this.slider.value = this.frame;
    const text = `frame ${this.frame} of ${this.last} · ${(this.frame / this.data.fps).toFixed(2)} s`;
    this.slider.setAttribute("aria-valuetext", text);
    this.said.textContent = text;
    for (const cursor of this.cursors) cursor.style.left = `${share}%`;
    for (const { said, title, values } of this.strips) said.replaceChildren(`${title} `, make("b", {}, shown(values[this.frame])));
    for (const { dot, look, place, way, across, up, sign } of this.dots) {
      const times = this.data.cameras.frames;
      let at = times.findIndex((time) => time >= this.frame);
      if (at < 0) at = times.length - 1;
      const [x, y] = place(way.at[at]);
      dot.setAttribute("cx", x); dot.setAttribute("cy", y);
      look.setAttribute("x1", x); look.setAttribute("y1", y);
      look.setAttribute("x2", x + 22 * way.looks[at][across]); look.setAttribute("y2", y + 22 * sign * way.looks[at][up]);
    }
    if (this.playing) this.hold();
  }

  /* Hold the other videos within a frame of the leading one. */
  hold() {
    for (const { video, data } of this.sources.slice(1)) {
      const late = this.video.currentTime - video.currentTime;
      if (Math.abs(late) > 0.2) video.currentTime = this.video.currentTime;
      else video.playbackRate = this.video.playbackRate * (1 + Math.max(-0.2, Math.min(0.2, Math.abs(late) > 0.5 / data.fps ? 3 * late : 0)));
    }
  }

  paint(only) {
    for (const { source, kind, place, canvas, context, large } of this.cells) {
      if ((only && source !== only) || source.video.readyState < 2) continue;
      const part = (name) => this.part(source, name);
      const { width, height } = canvas;
      context.drawImage(source.video, ...part(kind), 0, 0, width, height);
      if (!large) continue;
      if (this.wipe.kind && source.data.kinds.includes(this.wipe.kind)) {
        const [x, y, w, h] = part(this.wipe.kind);
        const cut = Math.max(1, Math.round(w * this.wipe.at));
        context.drawImage(source.video, x, y, cut, h, 0, 0, cut, height);
        context.fillStyle = "#fff";
        context.fillRect(cut - 0.5, 0, 1, height);
      }
      if (this.overlay) this.tint(source, context, width, height);
    }
  }

  part(source, kind) {
    const { kinds, columns, cell, size } = source.data;
    const place = kinds.indexOf(kind);
    return [(place % columns) * cell[0], Math.floor(place / columns) * cell[1], size[0], size[1]];
  }

  /* Colour what was invented: its mask, coloured, is added to the darkened picture. */
  tint(source, context, width, height) {
    const mask = this.mask || (this.mask = document.createElement("canvas"));
    mask.width = width; mask.height = height;
    const layer = mask.getContext("2d");
    layer.drawImage(source.video, ...this.part(source, "visible"), 0, 0, width, height);
    layer.globalCompositeOperation = "multiply";
    layer.fillStyle = "#ff3d8b";
    layer.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "screen";
    context.globalAlpha = 0.6;
    context.drawImage(mask, 0, 0);
    context.globalAlpha = 1;
    context.globalCompositeOperation = "source-over";
  }

  setWipe(kind) {
    this.wipe.kind = kind;
    this.wiper.hidden = !kind;
    this.paint();
  }

  drag(event) {
    if (!this.wipe.kind) return;
    const box = event.target.getBoundingClientRect();
    this.wipe.at = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    this.wiper.value = 100 * this.wipe.at;
    this.paint();
  }

  speed(value) { for (const { video } of this.sources) video.playbackRate = value; }

  toggle() { if (this.playing) this.pause(); else this.play(); }

  play() {
    for (const { video } of this.sources) video.play().catch(() => {});
  }

  pause() {
    if (!this.playing) return;
    for (const { video } of this.sources) video.pause();
    this.show(this.frame);
  }

  close() {
    for (const { video } of this.sources) { video.pause(); video.removeAttribute("src"); video.load(); }
  }

  key(event) {
    const { target, key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || target.matches("select")) return;
    const slides = target.matches("input[type=range]");
    if (key === " " && !target.matches("button, a, input[type=checkbox]")) this.toggle();
    else if (key === "ArrowLeft" && !slides) { this.pause(); this.show(this.frame - 1); }
    else if (key === "ArrowRight" && !slides) { this.pause(); this.show(this.frame + 1); }
    else if (key === "o") this.over.click();
    else return;
    event.preventDefault();
  }
}
