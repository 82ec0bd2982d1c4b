// The object that is open: what the server says of it, what is selected and hidden, and every change that is made to it.

import { get, post } from "./api.js";
import { colourNumbers, cut } from "./dendrogram.js";
import { announce, toast, told } from "./dom.js";
import { Model, loadGlb } from "./model.js";

/** Events: "doc" (another document or version), "parts" (other parts are shown), "selection", "look", "hover". */
export class Bench extends EventTarget {
  constructor(stage, palette) {
    super();
    this.stage = stage;
    this.palette = palette;
    this.line = Promise.resolve();
    this.close();
    stage.addEventListener("hover", ({ detail }) => this.hover(detail.label));
  }

  close() {
    this.doc = null;
    this.selected = new Set();
    this.hidden = new Set();
    this.preview = null; // the number of parts that the slider shows and the server does not know yet
    this.look = { own: false, wireframe: false, neural: false };
    this.seeding = false; // whether a click takes out what is there
    this.modelKey = null;
    this.stage.setModel(null);
    this.stage.setOriginal(null);
    this.stage.wipe = null;
  }

  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  async open(id) {
    this.close();
    const opened = (this.opening = {});
    const doc = await get(`objects/${encodeURIComponent(id)}`);
    if (this.opening === opened) await this.take(doc);
  }

  get closed() {
    return this.doc.history.some((entry) => entry.close && entry.close !== "none");
  }

  /** Whether the parts are shown as groups of atoms, so that they change at once. */
  get ofAtoms() {
    return Boolean(this.doc?.own_surface && this.doc.hierarchy && this.doc.files.atoms);
  }

  /** Another document of the object: its model is fetched if the present one cannot show it. */
  async take(doc) {
    const before = this.doc, atoms = this.atomsOf(this.selected), hiddenAtoms = this.atomsOf(this.hidden);
    this.doc = doc;
    this.preview = null;
    if (before?.id === doc.id) this.carryOver(before, atoms, hiddenAtoms);
    this.look.neural &&= Boolean(doc.files.neural);
    await this.showModel(...this.atRest());
    if (this.doc !== doc) return;
    this.regroup();
    this.emit("doc");
    this.emit("selection");
  }

  /** What shows the document: its key, its address, and whether it has a node for every atom. */
  atRest() {
    const { id, version, files } = this.doc;
    if (this.look.neural) return [`${id} ${version} neural`, files.neural, false];
    return this.ofAtoms && !this.closed ? [`${id} atoms`, files.atoms, true] : [`${id} ${version}`, files.object, false];
  }

  async showModel(key, address, ofAtoms) {
    if (this.modelKey === key) return;
    const scene = address ? await told(() => loadGlb(address)) : null;
    this.modelKey = key;
    this.atomColours = null;
    this.stage.setModel(scene ? new Model(scene, ofAtoms) : null);
  }

  atomsOf(labels) {
    return new Set((this.doc?.parts ?? []).filter((part) => labels.has(part.label)).flatMap((part) => part.atoms ?? []));
  }

  carryOver(before, selected, hidden) {
    const same = new Set(before.parts.map((part) => part.label));
    const known = (labels) => (part) => !part.atoms?.length && same.has(part.label) && labels.has(part.label);
    const wasSelected = known(this.selected), wasHidden = known(this.hidden);
    const kept = this.doc.parts.filter((part) => wasSelected(part) || part.atoms?.some((atom) => selected.has(atom)));
    const away = this.doc.parts.filter(
      (part) => wasHidden(part) || (part.atoms?.length && part.atoms.every((atom) => hidden.has(atom))),
    );
    this.selected = new Set(kept.map((part) => part.label));
    this.hidden = new Set(away.map((part) => part.label));
  }

  /** The parts that are shown: of the document, or as the slider has them. */
  shown() {
    const { doc } = this;
    if (!doc) return [];
    if (this.preview === null) {
      return doc.parts.map((part) => ({ ...part, colour: this.colourOf(part), pieces: this.piecesOf(part) }));
    }
    const number = cut(doc.hierarchy.merges, this.areas(), this.preview);
    const known = new Map(doc.parts.map((part) => [[...part.atoms].sort((a, b) => a - b).join(), part]));
    return [...Array(this.preview).keys()].map((rank) => {
      const atoms = number.flatMap((part, atom) => (part === rank ? [atom] : []));
      const same = known.get(atoms.join());
      const part = { ...(same ?? { name: "", triangles: null }), label: rank + 1, atoms };
      return { ...part, colour: this.colourOf(part), pieces: atoms };
    });
  }

  piecesOf(part) {
    return this.stage.model?.ofAtoms ? part.atoms : [part.label];
  }

  areas() {
    const { hierarchy } = this.doc;
    return (hierarchy.areas ??= this.stage.model.areas());
  }

  colourOf(part) {
    if (part.own_colour || !part.atoms?.length || !this.stage.model?.ofAtoms) {
      return part.colour ?? this.palette[(part.label - 1) % this.palette.length];
    }
    this.atomColours ??= colourNumbers(this.doc.hierarchy.merges, this.areas());
    return this.palette[Math.min(...part.atoms.map((atom) => this.atomColours[atom])) % this.palette.length];
  }

  regroup() {
    const parts = (this.parts = this.shown());
    this.stage.model?.group(parts);
    this.stage.model?.paint(this.look);
    this.stage.model?.show(this.hidden);
    this.stage.model?.explode(this.stage.amount);
    this.stage.selected = this.selected;
    this.stage.invalidate();
    this.emit("parts");
  }

  part(label) {
    return this.parts?.find((part) => part.label === label);
  }

  /** Shows another number of parts without the server; `commit` makes it so. */
  async show(number) {
    if (this.preview === null) {
      this.selected = new Set();
      this.hidden = new Set();
    }
    this.preview = number;
    if (!this.stage.model?.ofAtoms) await this.showModel(`${this.doc.id} atoms`, this.doc.files.atoms, true);
    if (this.preview !== null) this.regroup();
  }

  commit() {
    if (this.preview !== null) return this.change("regroup", { parts: this.preview });
  }

  /** A change by the server, one after another; null where it was refused. */
  change(name, body = {}) {
    const work = async () => {
      try {
        const doc = await post(`objects/${encodeURIComponent(this.doc.id)}/${name}`, { version: this.doc.version, ...body });
        if (doc.id === this.doc?.id) await this.take(doc);
        return doc;
      } catch (error) {
        if (this.preview !== null) {
          this.preview = null;
          this.regroup();
        }
        if (error.status === 409) await told(() => this.reload());
        throw error;
      }
    };
    const done = this.line.then(() => told(work));
    this.line = done;
    return done;
  }

  /** What the server has now, such as after another tab changed it. */
  async reload() {
    if (!this.doc) return;
    const doc = await get(`objects/${encodeURIComponent(this.doc.id)}`);
    if (doc.id !== this.doc?.id) return;
    if (doc.version !== this.doc.version || doc.busy !== this.doc.busy || doc.can_redo !== this.doc.can_redo) await this.take(doc);
  }

  /** What is under a point of the views or of the surface becomes a part of its own; then it is selected. */
  async takeOut(where, atom) {
    const { doc } = this;
    if (!doc.own_surface) {
      this.setSeeding(false);
      if (!where.points) return toast("Click in one of the four views: this object has no surface of its own.", "error");
      return told(() => this.submit({ command: "take-out", object: doc.id, version: doc.version, ...where, options: {} }));
    }
    const made = await this.change("take-out", where);
    await this.setSeeding(false);
    const part = made?.parts.find((one) => one.atoms.includes(atom));
    if (!part) return;
    this.select([part.label]);
    announce(`Taken out: ${part.name}.`);
  }

  /** For a click the pieces must be there to be hit, also where something else is shown at rest. */
  async setSeeding(on) {
    if (on === this.seeding) return;
    this.seeding = on;
    this.emit("look");
    if (!this.ofAtoms || this.preview !== null) return;
    const wanted = on ? [`${this.doc.id} atoms`, this.doc.files.atoms, true] : this.atRest();
    if (wanted[0] === this.modelKey) return;
    await this.showModel(...wanted);
    this.regroup();
  }

  select(labels) {
    this.selected = new Set(labels);
    this.stage.selected = this.selected;
    this.stage.invalidate();
    this.emit("selection");
  }

  toggle(label, extend) {
    if (!extend) return this.select([label]);
    const next = new Set(this.selected);
    if (!next.delete(label)) next.add(label);
    this.select(next);
  }

  hide(labels, away = !labels.every((label) => this.hidden.has(label))) {
    for (const label of labels) {
      if (away) this.hidden.add(label);
      else this.hidden.delete(label);
    }
    this.showHidden();
  }

  /** Only these, or all again. */
  isolate(labels) {
    const rest = this.parts.map((part) => part.label).filter((label) => !labels.includes(label));
    const already = rest.every((label) => this.hidden.has(label)) && labels.every((label) => !this.hidden.has(label));
    this.hidden = new Set(already ? [] : rest);
    this.showHidden();
  }

  showHidden() {
    this.stage.model?.show(this.hidden);
    this.stage.invalidate();
    this.emit("parts");
  }

  async setLook(look) {
    const other = this.look.neural;
    this.look = { ...this.look, ...look };
    if (this.look.neural !== other) {
      await this.showModel(...this.atRest());
      this.regroup();
    }
    this.stage.model?.paint(this.look);
    this.stage.invalidate();
    this.emit("look");
  }

  hover(label) {
    if (this.stage.hovered !== label) this.stage.hover(label);
    this.emit("hover", { label });
  }

  /** Before against after; the object as it came is fetched where the present model cannot show it. */
  async compare(on) {
    this.stage.wipe = on ? 0.5 : null;
    const first = this.doc.versions[0].version;
    const changed = !this.stage.model?.ofAtoms && (this.closed || this.doc.version !== first);
    if (on && changed && !this.stage.original) {
      const address = this.doc.files.atoms ?? this.doc.files.object?.replace(/versions\/\d+/, `versions/${first}`);
      const scene = address ? await told(() => loadGlb(address)) : null;
      if (scene) {
        const model = new Model(scene, false);
        model.root.add(scene);
        this.stage.setOriginal(model);
      }
    }
    this.stage.invalidate();
    this.emit("look");
  }
}
