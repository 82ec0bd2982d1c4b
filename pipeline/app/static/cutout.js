// The cut-out of a picture, before it goes on: corrected with a brush, or replaced by a mask of one's own.

import { post, put } from "./api.js";
import { ask, el, find, meanwhile, told } from "./dom.js";

const MOST_STEPS = 30; // strokes that can be undone

class Brush {
  constructor(canvas, picture, mask) {
    this.canvas = canvas;
    this.picture = picture;
    this.mask = mask; // a canvas whose alpha is the object
    this.past = [];
    this.size = 24;
    this.adding = true;
    this.at = null;
    canvas.width = picture.width;
    canvas.height = picture.height;
    this.paper = canvas.getContext("2d");
    this.draw();
  }

  keep() {
    const { width, height } = this.mask;
    this.past.push(this.mask.getContext("2d").getImageData(0, 0, width, height));
    if (this.past.length > MOST_STEPS) this.past.shift();
  }

  undo() {
    const before = this.past.pop();
    if (before) this.mask.getContext("2d").putImageData(before, 0, 0);
    this.draw();
  }

  /** A line from one point to the next, in the picture's pixels. */
  stroke(from, to) {
    const paper = this.mask.getContext("2d");
    paper.globalCompositeOperation = this.adding ? "source-over" : "destination-out";
    paper.lineCap = "round";
    paper.lineWidth = this.width();
    paper.beginPath();
    paper.moveTo(from.x, from.y);
    paper.lineTo(to.x + 0.01, to.y);
    paper.stroke();
    paper.globalCompositeOperation = "source-over";
    this.draw();
  }

  /** The brush in the picture's pixels; its size is one on the screen. */
  width() {
    return (this.size * this.canvas.width) / Math.max(1, this.canvas.clientWidth);
  }

  draw() {
    const { paper, canvas } = this, { width, height } = canvas;
    paper.clearRect(0, 0, width, height);
    paper.globalAlpha = 1;
    paper.drawImage(this.mask, 0, 0);
    paper.globalCompositeOperation = "source-in";
    paper.drawImage(this.picture, 0, 0);
    paper.globalCompositeOperation = "destination-over";
    paper.globalAlpha = 0.18; // what is left out is faint
    paper.drawImage(this.picture, 0, 0);
    paper.globalAlpha = 1;
    paper.globalCompositeOperation = "source-over";
    if (!this.at) return;
    for (const [line, colour] of [[3, "#ffffff"], [1, "#000000"]]) {
      paper.lineWidth = (line * width) / Math.max(1, canvas.clientWidth);
      paper.strokeStyle = colour;
      paper.beginPath();
      paper.arc(this.at.x, this.at.y, this.width() / 2, 0, 7);
      paper.stroke();
    }
  }

  /** The mask as a PNG: white is the object. */
  png() {
    const { width, height } = this.mask, grey = el("canvas", { width, height }), paper = grey.getContext("2d");
    paper.drawImage(this.mask, 0, 0);
    paper.globalCompositeOperation = "source-in";
    paper.fillStyle = "#ffffff";
    paper.fillRect(0, 0, width, height);
    paper.globalCompositeOperation = "destination-over";
    paper.fillStyle = "#000000";
    paper.fillRect(0, 0, width, height);
    return new Promise((resolve) => grey.toBlob(resolve, "image/png"));
  }
}

/** Shows the cut-out of an uploaded picture; true once it may go on, its mask being at the server. */
export async function cutOut({ id, name }) {
  const address = `uploads/${encodeURIComponent(id)}`;
  const made = await told(() => meanwhile(`Finding the object in ${name} …`, () => post(`${address}/cutout`)));
  if (!made) return false;
  const dialog = find("#cutout"), controller = new AbortController(), { signal } = controller;
  const [picture, automatic] = await Promise.all([image(made.picture ?? `/api/v1/${address}/picture`), image(made.mask ?? `/api/v1/${address}/mask`)]);
  const brush = new Brush(find("#brush"), picture, alphaOf(automatic, picture));
  find("#cutout-name").textContent = name;
  find("#cutout-note").textContent = made.note ?? "";
  listen(dialog, brush, automatic, signal);
  const answer = await ask(dialog);
  controller.abort();
  if (answer !== "go") return false;
  const mask = await brush.png();
  return (await told(() => put(`${address}/mask`, mask, "image/png").then(() => true))) ?? false;
}

function listen(dialog, brush, automatic, signal) {
  const { canvas } = brush, on = (target, name, act) => target.addEventListener(name, act, { signal });
  const replace = (mask) => {
    brush.keep();
    const paper = brush.mask.getContext("2d");
    paper.clearRect(0, 0, brush.mask.width, brush.mask.height);
    paper.drawImage(alphaOf(mask, brush.picture), 0, 0);
    brush.draw();
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * canvas.width, y: ((event.clientY - box.top) / box.height) * canvas.height };
  };
  let last = null;
  on(canvas, "pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    brush.keep();
    last = place(event);
    brush.stroke(last, last);
  });
  on(canvas, "pointermove", (event) => {
    brush.at = place(event);
    if (last) brush.stroke(last, brush.at);
    else brush.draw();
    last &&= brush.at;
  });
  for (const name of ["pointerup", "pointercancel"]) on(canvas, name, () => (last = null));
  on(canvas, "pointerleave", () => {
    brush.at = null;
    brush.draw();
  });
  on(canvas, "keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    brush.at ??= { x: canvas.width / 2, y: canvas.height / 2 };
    if (event.key in steps) {
      const step = brush.width() / 3, from = brush.at;
      brush.at = { x: from.x + steps[event.key][0] * step, y: from.y + steps[event.key][1] * step };
      if (event.shiftKey) brush.stroke(from, brush.at);
    } else if (event.key === " ") {
      brush.keep();
      brush.stroke(brush.at, brush.at);
    } else return;
    event.preventDefault();
    brush.draw();
  });
  on(dialog, "keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
    event.preventDefault();
    brush.undo();
  });
  for (const choice of dialog.querySelectorAll("[name=brush]")) on(choice, "change", () => (brush.adding = choice.value === "add"));
  brush.adding = find("[name=brush]:checked", dialog).value === "add";
  on(find("#brush-size"), "input", (event) => (brush.size = Number(event.target.value)));
  brush.size = Number(find("#brush-size").value);
  on(find("#brush-undo"), "click", () => brush.undo());
  on(find("#brush-reset"), "click", () => replace(automatic));
  on(find("#mask-choose"), "click", () => find("#mask-file").click());
  on(find("#mask-file"), "change", async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    const address = URL.createObjectURL(file);
    const mask = await told(() => image(address));
    URL.revokeObjectURL(address);
    if (mask) replace(mask);
  });
}

function image(address) {
  return new Promise((resolve, reject) => {
    const made = new Image();
    made.onload = () => resolve(made);
    made.onerror = () => reject(new Error("This picture cannot be read; give a PNG or JPEG file."));
    made.src = address;
  });
}

/** A grey picture, or one with a transparent background, as a mask of the picture's size: a canvas' alpha. */
function alphaOf(mask, { width, height }) {
  const canvas = el("canvas", { width, height }), paper = canvas.getContext("2d", { willReadFrequently: true });
  paper.drawImage(mask, 0, 0, width, height);
  const pixels = paper.getImageData(0, 0, width, height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const [red, green, blue, alpha] = pixels.data.subarray(at, at + 4);
    const inside = ((0.299 * red + 0.587 * green + 0.114 * blue) * alpha) / 255;
    pixels.data.set([255, 255, 255, inside], at);
  }
  paper.putImageData(pixels, 0, 0);
  return canvas;
}
