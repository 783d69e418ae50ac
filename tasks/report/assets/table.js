"use strict";
/* A table of any length: sorted and filtered as arrays, shown page by page. */
const ROWS = 50;

class Sorted {
  /* columns: [{title, hint, number, value(at), cell(at)}]; rows: how many; keep(at): whether a row is shown. */
  constructor(root, { columns, rows, by, descending, keep, caption }) {
    this.columns = columns;
    this.rows = rows;
    this.by = by;
    this.descending = descending;
    this.keep = keep;
    this.page = 0;
    this.hiddenColumns = new Set(columns.map((column, at) => (column.hidden ? at : -1)));
    this.table = make("table", {}, make("caption", { class: "hidden" }, caption));
    this.pager = make("div", { class: "pager row between" });
    root.replaceChildren(make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, this.table), this.pager);
    this.sort();
  }

  sort() {
    const column = this.columns[this.by];
    const known = [];
    const unknown = [];
    for (let at = 0; at < this.rows; at++) {
      if (!this.keep(at)) continue;
      const value = column.value(at);
      (value === null || value === undefined || value === "" ? unknown : known).push(at);
    }
    const keys = new Array(this.rows);
    for (const at of known) keys[at] = column.value(at);
    const turn = this.descending ? -1 : 1;
    known.sort(column.number ? (a, b) => turn * (keys[a] === keys[b] ? 0 : keys[a] < keys[b] ? -1 : 1) || a - b : (a, b) => turn * compareNames(keys[a], keys[b]) || a - b);
    this.order = known.concat(unknown);
    this.page = 0;
    this.fill();
  }

  sortBy(at) {
    if (this.by === at) this.descending = !this.descending;
    else { this.by = at; this.descending = Boolean(this.columns[at].descending); }
    this.sort();
    this.table.querySelectorAll("thead button")[this.visible().indexOf(at)].focus();
  }

  visible() {
    return this.columns.map((column, at) => at).filter((at) => !this.hiddenColumns.has(at));
  }

  fill() {
    const head = make("tr");
    for (const at of this.visible()) {
      const { title, hint, number } = this.columns[at];
      const way = at === this.by ? (this.descending ? "descending" : "ascending") : null;
      head.append(make("th", { scope: "col", class: number ? "number" : null, "aria-sort": way, title: hint },
        make("button", { type: "button", onclick: () => this.sortBy(at) }, title)));
    }
    const body = make("tbody");
    const first = this.page * ROWS;
    for (const at of this.order.slice(first, first + ROWS)) {
      const row = make("tr");
      for (const column of this.visible()) {
        const { number, cell, value, kind } = this.columns[column];
        row.append(make("td", { class: number ? "number" : kind || null }, cell ? cell(at) : number ? shown(value(at)) : value(at)));
      }
      body.append(row);
    }
    const caption = this.table.caption;
    this.table.replaceChildren(caption, make("thead", {}, head), body);
    const pages = Math.max(1, Math.ceil(this.order.length / ROWS));
    const go = (to) => () => { this.page = to; this.fill(); };
    this.pager.replaceChildren(
      make("span", { class: "soft small", role: "status" }, this.order.length ? `${group(first + 1)}–${group(Math.min(first + ROWS, this.order.length))} of ${group(this.order.length)}` : "nothing matches"),
      make("span", { class: "row" },
        make("button", { type: "button", disabled: this.page === 0, onclick: go(this.page - 1) }, "Previous"),
        make("button", { type: "button", disabled: this.page + 1 >= pages, onclick: go(this.page + 1) }, "Next")));
  }
}

const compareNames = new Intl.Collator(undefined, { numeric: true }).compare;
function group(number) { return number.toLocaleString("en").replaceAll(",", " "); }
