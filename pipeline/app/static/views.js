// The four views of the object with its parts over them: to select, and to point at what is to be taken out.

import { el, find, told } from "./dom.js";

export class ViewsPanel {
  constructor(root, bench) {
    this.bench = bench;
    this.canvas = find("#grid", root);
    this.paper = this.canvas.getContext("2d");
    this.map = null; // the number of every pixel: an atom's from 1, or a part's; 0 is the background
    this.cross = null; // where the keyboard is
    this.painted = []; // pixels of a stroke that is not yet ended
    bench.addEventListener("doc", () => this.load());
    for (const name of ["parts", "selection", "hover"]) bench.addEventListener(name, () => this.draw());
    this.listen();
  }

  listen() {
    const { bench, canvas } = this;
    let down = false;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      down = true;
      canvas.setPointerCapture(event.pointerId);
      this.painted = [this.pixel(event)];
      this.draw();
    });
    canvas.addEventListener("pointermove", (event) => {
      const at = this.pixel(event);
      if (!down) return bench.hover(this.labelAt(at));
      if (!bench.seeding) return;
      const last = this.painted.at(-1);
      if (at.x !== last.x || at.y !== last.y) this.painted.push(at);
      this.draw();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!down) return;
      down = false;
      const stroke = this.painted;
      this.painted = [];
      this.act(bench.seeding ? stroke : [this.pixel(event)], event.shiftKey || event.ctrlKey || event.metaKey);
    });
    canvas.addEventListener("pointercancel", () => {
      down = false;
      this.painted = [];
      this.draw();
    });
    canvas.addEventListener("pointerleave", () => bench.hover(null));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => {
      this.cross = null;
      this.draw();
    });
  }

  key(event) {
    const size = this.size ?? 2, steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in steps) {
      const [dx, dy] = steps[event.key], step = event.shiftKey ? 8 : 2;
      this.cross ??= { x: size / 4, y: size / 4 };
      const held = (value) => Math.max(0, Math.min(size - 1, Math.round(value)));
      this.cross = { x: held(this.cross.x + dx * step), y: held(this.cross.y + dy * step) };
      this.bench.hover(this.labelAt(this.cross));
      this.draw();
    } else if (event.key === "Enter" && this.cross) {
      this.act([this.cross], event.shiftKey || event.ctrlKey || event.metaKey);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  act(pixels, extend) {
    const { bench } = this;
    if (bench.seeding) return this.takeOut(pixels);
    const label = this.labelAt(pixels[0]);
    if (label) bench.toggle(label, extend);
    else if (!extend) bench.select([]);
  }

  /** The part there, or the parts that were painted, as one of its own. */
  takeOut(pixels) {
    const half = this.size / 2;
    const points = pixels
      .filter((at) => this.numberAt(at))
      .map(({ x, y }) => ({ x: x % half, y: y % half, view: (x >= half ? 1 : 0) + (y >= half ? 2 : 0) }));
    if (points.length) this.bench.takeOut({ points }, this.numberAt(pixels.find((at) => this.numberAt(at))) - 1);
    this.draw();
  }

  pixel(event) {
    const box = this.canvas.getBoundingClientRect();
    const held = (share) => Math.max(0, Math.min(this.size - 1, Math.floor(share * this.size)));
    return { x: held((event.clientX - box.left) / box.width), y: held((event.clientY - box.top) / box.height) };
  }

  numberAt({ x, y }) {
    return this.map ? this.map[y * this.size + x] : 0;
  }

  labelAt(at) {
    return this.labels?.get(this.numberAt(at)) ?? null;
  }

  async load() {
    const { doc } = this.bench, { files } = doc;
    const ofAtoms = Boolean(doc.own_surface && files.atom_map);
    const [grid, map] = (await told(() => Promise.all([picture(files.grid), picture(ofAtoms ? files.atom_map : files.labels)]))) ?? [];
    if (!grid || this.bench.doc !== doc) return;
    this.grid = grid;
    this.size = grid.width;
    const pixels = pixelsOf(map), known = new Map(["#000000", ...this.bench.palette].map((colour, label) => [colour, label]));
    const hex = (at) => `#${[0, 1, 2].map((side) => pixels[at + side].toString(16).padStart(2, "0")).join("")}`;
    this.map = Uint8Array.from({ length: this.size ** 2 }, (_, at) => (ofAtoms ? pixels[4 * at] : (known.get(hex(4 * at)) ?? 0)));
    this.ofAtoms = ofAtoms;
    this.fillOthers(doc);
    this.draw();
  }

  draw() {
    const { bench, paper, canvas } = this;
    if (!this.map || !bench.parts) return;
    const drawn = this.ofAtoms
      ? bench.parts.flatMap((part) => part.atoms.map((atom) => [atom + 1, part.label]))
      : bench.parts.map((part) => [part.label, part.label]);
    this.labels = new Map(drawn);
    if (!canvas.clientWidth || this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.paint(paper);
    });
  }

  paint(paper) {
    const { bench, size } = this, { selected, hidden } = bench;
    const over = new ImageData(size, size), touched = bench.stage.hovered;
    const colours = new Map(bench.parts.map((part) => [part.label, [1, 3, 5].map((at) => parseInt(part.colour.slice(at, at + 2), 16))]));
    this.map.forEach((number, at) => {
      const label = this.labels.get(number);
      if (!label || hidden.has(label)) return;
      const strong = selected.has(label) ? 215 : label === touched ? 170 : selected.size ? 40 : 110;
      over.data.set([...colours.get(label), strong], 4 * at);
    });
    for (const { x, y } of this.painted) over.data.set([255, 255, 255, 255], 4 * (y * size + x));
    const layer = el("canvas", { width: size, height: size });
    layer.getContext("2d").putImageData(over, 0, 0);
    const side = Math.round(this.canvas.clientWidth * Math.min(devicePixelRatio, 2));
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    paper.clearRect(0, 0, side, side);
    paper.imageSmoothingEnabled = false;
    paper.drawImage(this.grid, 0, 0, side, side);
    paper.drawImage(layer, 0, 0, side, side);
    if (this.cross) this.drawCross(paper, side / size);
  }

  drawCross(paper, scale) {
    const x = (this.cross.x + 0.5) * scale, y = (this.cross.y + 0.5) * scale, arm = 9 * (scale / 2);
    for (const [width, colour] of [[4, "#ffffff"], [1.5, "#000000"]]) {
      paper.lineWidth = width;
      paper.strokeStyle = colour;
      paper.beginPath();
      paper.moveTo(x - arm, y);
      paper.lineTo(x + arm, y);
      paper.moveTo(x, y - arm);
      paper.lineTo(x, y + arm);
      paper.stroke();
    }
  }

  /** The other segmentations that were kept, to look at and to take instead. */
  fillOthers(doc) {
    const box = find("#others"), { segmentations, segmentation: used } = doc;
    const take = (use) => told(() => this.bench.submit({ command: "choose", object: doc.id, version: doc.version, options: { use } }));
    box.hidden = segmentations.length < 2;
    find("ol", box).replaceChildren(
      ...segmentations.map(({ score, url }, index) =>
        el(
          "li",
          {},
          el("img", { src: url, alt: `Segmentation ${index + 1}` }),
          el("span", { class: "quiet" }, `${index + 1}: score ${score.toFixed(2)}${index + 1 === used ? ", taken" : ""}`),
          used !== null && index + 1 !== used && el("button", { onclick: () => take(index + 1) }, "Take this one"),
        ),
      ),
    );
  }
}

function picture(address) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("A picture of this object cannot be fetched."));
    image.src = address;
  });
}

function pixelsOf(image) {
  const layer = el("canvas", { width: image.width, height: image.height });
  const paper = layer.getContext("2d", { willReadFrequently: true });
  paper.drawImage(image, 0, 0);
  return paper.getImageData(0, 0, image.width, image.height).data;
}
