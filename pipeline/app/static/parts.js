// The list of parts: a listbox with several selected, what can be done with them, and the slider of their number.

import { announce, confirmed, el, find, icon, several, told } from "./dom.js";

const MOST = 40; // parts on the slider; the field beside it takes any number

export class PartsPanel {
  constructor(root, bench) {
    this.bench = bench;
    this.list = find("#parts", root);
    this.slider = find("#number", root);
    this.field = find("#number-field", root);
    this.active = null; // the label that the keyboard is at
    bench.addEventListener("doc", () => this.fillNumber());
    bench.addEventListener("parts", () => this.fill());
    bench.addEventListener("selection", () => this.mark());
    bench.addEventListener("hover", ({ detail }) => this.touch(detail.label));
    this.listen(root);
  }

  listen(root) {
    const { bench, list } = this;
    list.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (!row) return;
      const label = Number(row.dataset.label);
      if (event.target.closest(".eye")) return bench.hide([label]);
      this.active = label;
      if (event.shiftKey && bench.selected.size) this.range(label);
      else bench.toggle(label, event.ctrlKey || event.metaKey || this.many);
    });
    list.addEventListener("dblclick", (event) => {
      const row = event.target.closest("[role=option]");
      if (row && !event.target.closest(".eye")) this.rename(Number(row.dataset.label));
    });
    list.addEventListener("pointerover", (event) => {
      const row = event.target.closest("[role=option]");
      bench.hover(row ? Number(row.dataset.label) : null);
    });
    list.addEventListener("pointerleave", () => bench.hover(null));
    list.addEventListener("keydown", (event) => this.key(event));
    list.addEventListener("focus", () => this.activate(this.active ?? bench.parts[0]?.label));
    this.slider.addEventListener("input", () => this.number(Number(this.slider.value)));
    this.field.addEventListener("change", () => this.number(Number(this.field.value)));
    find("#number-reset", root).addEventListener("click", () => bench.change("regroup", { parts: null }));
    for (const button of root.querySelectorAll("[data-act]")) {
      button.addEventListener("click", () => this.act(button.dataset.act));
    }
    find("#colour", root).addEventListener("input", (event) => {
      for (const label of bench.selected) bench.stage.model?.recolour(label, event.target.value);
      bench.stage.invalidate();
    });
    find("#colour", root).addEventListener("change", (event) => this.recolour(event.target.value));
    find("#many", root).addEventListener("change", (event) => (this.many = event.target.checked));
    find("#edit", root).addEventListener("submit", (event) => {
      event.preventDefault();
      const [part] = bench.selected;
      const prompt = find("#edit-text").value.trim();
      if (prompt && part) this.edit(part, prompt);
    });
  }

  fillNumber() {
    const { hierarchy, own_surface: own, parts } = this.bench.doc;
    find("#number-box").hidden = !(hierarchy && own && hierarchy.pieces > 1);
    if (!hierarchy) return;
    this.slider.max = Math.min(hierarchy.pieces, MOST);
    this.field.max = hierarchy.pieces;
    this.say(parts.length);
    find("#pieces").textContent = `of ${several(hierarchy.pieces, "piece")}`;
  }

  say(number) {
    this.slider.value = number;
    this.slider.setAttribute("aria-valuetext", several(number, "part"));
    this.field.value = number;
  }

  /** At once here; by the server when the slider has come to rest. */
  async number(wanted) {
    const { bench } = this, { pieces } = bench.doc.hierarchy;
    const number = Math.max(1, Math.min(pieces, Math.round(wanted) || 1));
    this.say(number);
    clearTimeout(this.resting);
    this.resting = setTimeout(() => bench.commit(), 350);
    await bench.show(number);
  }

  fill() {
    const { bench, list } = this;
    find("#parts-title").textContent = several(bench.parts.length, "part");
    list.replaceChildren(
      ...bench.parts.map((part) => {
        const away = bench.hidden.has(part.label);
        const swatch = el("span", { class: "swatch" });
        swatch.style.background = part.colour;
        const count = part.absent ? "no surface" : part.triangles === null ? "" : several(part.triangles, "triangle");
        return el(
          "li",
          { role: "option", id: `part-${part.label}`, class: away ? "away" : "", "data-label": part.label, title: part.caption },
          swatch,
          el("span", { class: "name" }, part.name || "new part"),
          el("span", { class: "quiet" }, count, away ? el("span", { class: "hidden-text" }, ", hidden") : null),
          el("span", { class: "eye", title: away ? "Show" : "Hide" }, icon(away ? "eye-off" : "eye")),
        );
      }),
    );
    this.mark();
  }

  mark() {
    const { bench } = this, { selected } = bench, count = selected.size;
    for (const row of this.list.children) {
      row.setAttribute("aria-selected", String(selected.has(Number(row.dataset.label))));
    }
    if (!bench.part(this.active)) this.active = null;
    const names = [...selected].map((label) => bench.part(label)?.name ?? "");
    find("#chosen").textContent = count === 0 ? "Select a part, here or in a view." : count === 1 ? names[0] : several(count, "part") + " selected";
    const busy = Boolean(bench.doc?.busy) || bench.preview !== null;
    const one = count === 1 ? bench.part([...selected][0]) : null;
    const can = {
      rename: one, hide: count, isolate: count, colour: count, fit: count, merge: count > 1,
      split: one && (one.atoms?.length ?? 0) > 1, none: count,
    };
    for (const button of document.querySelectorAll("#panel-parts [data-act]")) {
      const changes = ["rename", "merge", "split"].includes(button.dataset.act);
      if (button.dataset.act in can) button.disabled = !can[button.dataset.act] || (changes && busy);
    }
    find("#colour").disabled = !count || busy;
    if (count) find("#colour").value = bench.part([...selected][0])?.colour ?? "#888888";
    find("#edit").hidden = !one;
    if (one) find("#edit-label").textContent = `Replace ${one.name} by text`;
    find("#edit-go").disabled = busy;
    const first = this.list.querySelector("[aria-selected=true]");
    if (count === 1 && first && !this.list.matches(":hover")) first.scrollIntoView({ block: "nearest" });
  }

  touch(label) {
    for (const row of this.list.children) row.classList.toggle("touched", Number(row.dataset.label) === label);
  }

  activate(label) {
    this.active = label ?? null;
    for (const row of this.list.children) row.classList.toggle("active", Number(row.dataset.label) === label);
    if (label === undefined) return this.list.removeAttribute("aria-activedescendant");
    this.list.setAttribute("aria-activedescendant", `part-${label}`);
    find(`#part-${label}`)?.scrollIntoView({ block: "nearest" });
  }

  range(label) {
    const labels = this.bench.parts.map((part) => part.label), from = labels.indexOf([...this.bench.selected].at(-1));
    const [low, high] = [from, labels.indexOf(label)].sort((one, other) => one - other);
    this.bench.select([...this.bench.selected, ...labels.slice(low, high + 1)]);
  }

  key(event) {
    const { bench } = this, labels = bench.parts.map((part) => part.label), at = labels.indexOf(this.active);
    const go = (index, extend) => {
      const label = labels[Math.max(0, Math.min(labels.length - 1, index))];
      this.activate(label);
      if (extend) bench.select([...bench.selected, label]);
    };
    const keys = {
      ArrowDown: () => go(at + 1, event.shiftKey),
      ArrowUp: () => go(at - 1, event.shiftKey),
      Home: () => go(0),
      End: () => go(labels.length - 1),
      " ": () => bench.toggle(this.active, true),
      Enter: () => bench.toggle(this.active, event.ctrlKey || event.metaKey),
      F2: () => this.rename(this.active),
    };
    if ((event.ctrlKey || event.metaKey) && event.key === "a") bench.select(labels);
    else if (event.key in keys && labels.length) keys[event.key]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  act(name) {
    const { bench } = this, labels = [...bench.selected];
    const acts = {
      rename: () => this.rename(labels[0]),
      hide: () => bench.hide(labels),
      isolate: () => bench.isolate(labels),
      fit: () => bench.stage.fit(bench.selected),
      merge: () => this.merge(labels),
      split: () => this.split(labels[0]),
      none: () => bench.select([]),
      all: () => bench.hide(bench.parts.map((part) => part.label), false),
    };
    return acts[name]();
  }

  async merge(labels) {
    if (await this.bench.change("merge", { parts: labels })) announce("Merged into one part.");
  }

  async split(label) {
    const before = this.bench.doc.parts.length;
    if (await this.bench.change("split", { part: label })) announce(`Split; ${this.bench.doc.parts.length - before} more.`);
  }

  async recolour(colour) {
    for (const part of [...this.bench.selected]) await this.bench.change("recolour", { part, colour });
  }

  async edit(part, prompt) {
    const { doc } = this.bench;
    if (this.bench.ofAtoms && !doc.history.some((entry) => ["edit", "add"].includes(entry.command))) {
      const detail = "All parts get a neural field first, and the number of parts can no longer be changed. Undo brings it back.";
      if (!(await confirmed("Replace this part by text?", detail, "Replace"))) return;
    }
    const job = await told(() => this.bench.submit({ command: "edit", object: doc.id, version: doc.version, part: String(part), prompt, options: {} }));
    if (job) find("#edit-text").value = "";
  }

  /** An input over the row; Enter and leaving it keep the name, Escape does not. */
  rename(label) {
    const part = this.bench.part(label), row = find(`#part-${label}`);
    if (!part || !row || this.bench.preview !== null) return;
    row.scrollIntoView({ block: "nearest" });
    const input = el("input", { class: "rename", "aria-label": `New name of ${part.name}`, maxlength: 60 });
    input.value = part.name;
    input.style.top = `${row.offsetTop - this.list.scrollTop + this.list.offsetTop}px`;
    input.style.height = `${row.offsetHeight}px`;
    let over = false;
    const end = (keep) => {
      if (over) return;
      over = true;
      const name = input.value.trim();
      input.remove();
      this.list.focus();
      if (keep && name && name !== part.name) this.bench.change("rename", { part: label, name });
    };
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") end(false);
    });
    input.addEventListener("blur", () => end(true));
    this.list.parentElement.append(input);
    input.select();
  }
}
