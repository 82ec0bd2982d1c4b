// The tools over the view, the tabs beside it, jobs that run on the open object, and the keys for all of these.

import { isOver } from "./api.js";
import { ask, find } from "./dom.js";
import { JobCard, jobs } from "./jobs.js";

export class Tools {
  constructor(bench, parts) {
    this.bench = bench;
    this.stage = bench.stage;
    this.parts = parts;
    this.card = null;
    for (const radio of document.querySelectorAll("[name=look]")) {
      radio.addEventListener("change", () => bench.setLook({ own: radio.value !== "parts", neural: radio.value === "neural" }));
    }
    find("#explode").addEventListener("input", (event) => this.stage.explode(Number(event.target.value)));
    const acts = {
      wire: () => bench.setLook({ wireframe: !bench.look.wireframe }),
      compare: () => bench.compare(this.stage.wipe === null),
      fit: () => this.stage.fit(bench.selected),
      reset: () => this.reset(),
      seed: () => bench.setSeeding(!bench.seeding),
      "seed-views": () => bench.setSeeding(!bench.seeding),
      undo: () => bench.change("undo"),
      redo: () => bench.change("redo"),
    };
    for (const [id, act] of Object.entries(acts)) find(`#${id}`).addEventListener("click", act);
    find("#wipe").addEventListener("input", () => this.wipe());
    this.stage.addEventListener("pick", ({ detail }) => this.pick(detail));
    bench.addEventListener("look", () => this.show());
    bench.addEventListener("hover", ({ detail }) => this.tip(detail.label));
    bench.addEventListener("doc", () => {
      this.show();
      this.running();
    });
    this.stage.canvas.addEventListener("pointermove", (event) => {
      const tip = find("#tip"), box = this.stage.canvas.getBoundingClientRect();
      tip.style.translate = `${event.clientX - box.left + 14}px ${event.clientY - box.top + 14}px`;
    });
    jobs.addEventListener("change", () => this.running());
    document.addEventListener("keydown", (event) => this.key(event));
    const grip = find("#grip"), sizes = ["half", "full", "low"];
    grip.addEventListener("click", () => {
      const next = sizes[(sizes.indexOf(find("#bench").dataset.sheet ?? "half") + 1) % sizes.length];
      find("#bench").dataset.sheet = next;
      grip.setAttribute("aria-expanded", String(next !== "low"));
    });
  }

  show() {
    const { bench, stage } = this, { own, wireframe, neural } = bench.look;
    find(`[name=look][value=${neural ? "neural" : own ? "own" : "parts"}]`).checked = true;
    find("#look-neural").hidden = !bench.doc?.files.neural;
    find("#wire").setAttribute("aria-pressed", String(wireframe));
    find("#compare").setAttribute("aria-pressed", String(stage.wipe !== null));
    for (const id of ["seed", "seed-views"]) find(`#${id}`).setAttribute("aria-pressed", String(bench.seeding));
    for (const id of ["seed", "seed-views"]) find(`#${id}`).disabled = Boolean(bench.doc?.busy);
    find("#hint").hidden = !bench.seeding;
    find("#hint").textContent = bench.doc?.own_surface
      ? "Click what is to be a part of its own, here or in the four views. Esc ends this."
      : "Click what is to be a part of its own in the four views. Esc ends this.";
    stage.canvas.classList.toggle("seeding", bench.seeding);
    find("#grid").classList.toggle("seeding", bench.seeding);
    for (const id of ["wipe", "wipe-line"]) find(`#${id}`).hidden = stage.wipe === null;
    find("#explode").value = stage.amount;
    if (stage.wipe !== null) this.wipe();
  }

  wipe() {
    const share = Number(find("#wipe").value);
    this.stage.wipe = share;
    find("#wipe-line").style.left = `${100 * share}%`;
    this.stage.invalidate();
  }

  reset() {
    this.stage.explode(0);
    this.stage.home();
    this.bench.compare(false);
    this.bench.setLook({ wireframe: false });
  }

  pick({ label, piece, extend }) {
    const { bench } = this;
    if (bench.seeding) {
      if (label !== undefined) bench.takeOut(bench.stage.model.ofAtoms ? { atoms: [piece] } : {}, piece);
    } else if (label !== undefined) bench.toggle(label, extend || this.parts.many);
    else if (!extend) bench.select([]);
  }

  tip(label) {
    const part = this.bench.part(label), tip = find("#tip");
    tip.hidden = !part || !this.stage.canvas.matches(":hover");
    tip.textContent = part?.name ?? "";
  }

  /** The card of the job that changes the open object. */
  running() {
    const busy = jobs.all.get(this.bench.doc?.busy), mine = busy && !isOver(busy) ? busy : null;
    if (this.card && this.card.job.id !== mine?.id) {
      this.card.element.remove();
      this.card = null;
    }
    if (!mine) return;
    if (!this.card) {
      this.card = new JobCard();
      this.card.show(mine);
      find("#running").append(this.card.element);
    }
    this.card.show(mine);
  }

  key(event) {
    const { bench } = this;
    if (!bench.doc || find("#bench").hidden || document.querySelector("dialog[open]")) return;
    const writing = event.target.closest("input:not([type=range], [type=radio], [type=checkbox], [type=color]), textarea, select");
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !writing) {
      event.preventDefault();
      if (!bench.doc.busy && bench.doc[event.shiftKey ? "can_redo" : "can_undo"]) bench.change(event.shiftKey ? "redo" : "undo");
      return;
    }
    if (writing || event.ctrlKey || event.metaKey || event.altKey) return;
    const press = (selector) => () => find(selector).disabled || find(selector).click();
    const keys = {
      h: press("[data-act=hide]"), i: press("[data-act=isolate]"), m: press("[data-act=merge]"), s: press("[data-act=split]"),
      t: press("#seed"), w: press("#wire"), b: press("#compare"), f: press("#fit"), r: press("#reset"), F2: press("[data-act=rename]"),
      c: () => bench.setLook({ own: !bench.look.own, neural: false }),
      e: () => this.stage.explode(this.stage.amount > 0.02 ? 0 : 0.6),
      "?": () => ask(find("#help")),
      Escape: () => (bench.seeding ? bench.setSeeding(false) : bench.select([])),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
    this.show();
  }
}

/** Tabs as the ARIA pattern has them; `opened` gets the name of the one that is shown. */
export function tabs(root, opened) {
  const all = [...root.querySelectorAll("[role=tab]")];
  const open = (tab) => {
    for (const one of all) {
      one.setAttribute("aria-selected", String(one === tab));
      one.tabIndex = one === tab ? 0 : -1;
      find(`#${one.getAttribute("aria-controls")}`).hidden = one !== tab;
    }
    opened(tab.id.slice(4));
  };
  for (const [index, tab] of all.entries()) {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = all[(index + step + all.length) % all.length];
      open(next);
      next.focus();
    });
  }
}
