// The 3D view: one camera, one model, and what is picked in it. It draws only when something has changed.

import { Outline } from "./outline.js";

const FOV = 40, AZIMUTH = Math.PI / 6, ELEVATION = Math.PI / 9; // as the renders, from a corner
const TURN = Math.PI / 18, ZOOM = 1.15; // a key's step
export const HANDLE = 34; // pixels of the handle between before and after, as in app.css
const TOOLS = 24; // pixels that the picture is moved up, away from the tools below
const STILL = 5; // pixels that a pointer may move within a click

/** Events: "pick" {label, piece, extend}, "hover" {label}, "moved" while the gizmo is dragged. */
export class Stage extends EventTarget {
  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.renderer = new THREE.WebGLRenderer({ canvas, alpha: true, antialias: true });
    this.camera = new THREE.PerspectiveCamera(FOV, 1, 0.01, 100);
    const lamp = new THREE.DirectionalLight(0xffffff, 1.9);
    lamp.position.set(0.6, 1, 0.7);
    this.camera.add(lamp);
    this.scene = new THREE.Scene();
    this.scene.add(this.camera, new THREE.HemisphereLight(0xffffff, 0x8d8a84, 1.7));
    this.controls = new THREE.OrbitControls(this.camera, canvas);
    this.controls.addEventListener("change", () => this.invalidate());
    this.controls.addEventListener("start", () => (this.flight = null));
    this.outline = new Outline();
    this.selected = new Set();
    this.hovered = null;
    this.amount = 0;
    this.wipe = null; // where "before" ends, as a share of what the handle can go
    this.original = null; // a model of the object as it came, where the present one cannot show that
    this.ray = new THREE.Raycaster();
    this.listen();
    new ResizeObserver(() => this.invalidate()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.scheme());
    this.scheme();
  }

  scheme() {
    const style = getComputedStyle(document.documentElement);
    this.outline.colours(style.getPropertyValue("--chosen").trim(), style.getPropertyValue("--touched").trim());
    this.invalidate();
  }

  listen() {
    let down = null, waiting = null;
    this.canvas.addEventListener("pointerdown", (event) => (down = { x: event.clientX, y: event.clientY }));
    this.canvas.addEventListener("pointerup", (event) => {
      if (!down || Math.hypot(event.clientX - down.x, event.clientY - down.y) > STILL || event.button) return;
      const hit = this.hit(event);
      const extend = event.shiftKey || event.ctrlKey || event.metaKey;
      this.dispatchEvent(new CustomEvent("pick", { detail: { ...hit, extend } }));
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.buttons || event.pointerType === "touch") return;
      if (!waiting) {
        requestAnimationFrame(() => {
          this.hover(this.hit(waiting)?.label ?? null);
          waiting = null;
        });
      }
      waiting = event;
    });
    this.canvas.addEventListener("pointerleave", () => this.hover(null));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  /** The same keys as in the report's viewer.js; that page is opened from disk, where browsers load no ES modules. */
  key(event) {
    const steps = {
      ArrowLeft: () => this.controls.rotateLeft(-TURN),
      ArrowRight: () => this.controls.rotateLeft(TURN),
      ArrowUp: () => this.controls.rotateUp(TURN),
      ArrowDown: () => this.controls.rotateUp(-TURN),
      "+": () => this.controls.dollyIn(ZOOM),
      "-": () => this.controls.dollyOut(ZOOM),
    };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    steps[event.key]();
    this.controls.update();
  }

  hover(label) {
    if (label === this.hovered) return;
    this.hovered = label;
    this.canvas.classList.toggle("over", label !== null);
    this.dispatchEvent(new CustomEvent("hover", { detail: { label } }));
    this.invalidate();
  }

  /** What is under the pointer: {label, piece, point}, or null. */
  hit(event) {
    if (!this.model || this.gizmo?.dragging) return null;
    const box = this.canvas.getBoundingClientRect();
    const at = new THREE.Vector2(
      ((event.clientX - box.left) / box.width) * 2 - 1,
      1 - ((event.clientY - box.top) / box.height) * 2,
    );
    this.aim();
    this.scene.updateMatrixWorld();
    this.ray.setFromCamera(at, this.camera);
    const shown = this.model.parts.filter((part) => part.object.visible).map((part) => part.object);
    const [first] = this.ray.intersectObjects(shown, true);
    if (!first) return null;
    return { label: first.object.userData.label, piece: this.model.pieceOf(first.object), point: first.point };
  }

  /** Another model in place of the present one, which is forgotten; the camera stays unless there was none. */
  setModel(model) {
    if (this.model && this.model !== model) {
      this.scene.remove(this.model.root);
      this.model.dispose();
    }
    const first = !this.model;
    this.model = model;
    if (model) {
      this.scene.add(model.root);
      model.explode(this.amount);
      if (first) this.home();
    }
    this.invalidate();
  }

  setOriginal(model) {
    if (this.original) {
      this.scene.remove(this.original.root);
      this.original.dispose();
    }
    this.original = model;
    if (model) {
      model.root.visible = false;
      model.root.userData.beside = true;
      this.scene.add(model.root);
    }
    this.invalidate();
  }

  /** Pulls the parts apart; the camera goes back so far that they are still in sight. */
  explode(amount) {
    const step = this.camera.position.clone().sub(this.controls.target).multiplyScalar((1 + 0.7 * amount) / (1 + 0.7 * this.amount));
    this.camera.position.copy(this.controls.target).add(step);
    this.controls.update();
    this.amount = amount;
    this.model?.explode(amount);
    this.invalidate();
  }

  /** The camera as at first. */
  home() {
    const flat = Math.cos(ELEVATION);
    const towards = new THREE.Vector3(Math.sin(AZIMUTH) * flat, Math.sin(ELEVATION), Math.cos(AZIMUTH) * flat);
    this.look(towards, this.model?.middle ?? new THREE.Vector3(), (this.model?.radius ?? 1) * (1 + 0.7 * this.amount));
  }

  /** The camera farther away, so that there is room beside the object. */
  wide() {
    const towards = this.camera.position.clone().sub(this.controls.target).normalize();
    this.look(towards, this.model.middle, 1.8 * this.model.radius);
  }

  /** The camera so that the parts of these labels fill the view, all that are shown where there are none. */
  fit(labels = new Set()) {
    const box = new THREE.Box3();
    for (const part of this.model?.parts ?? []) {
      if (part.object.visible && (!labels.size || labels.has(part.label))) box.expandByObject(part.object);
    }
    if (box.isEmpty()) return;
    const towards = this.camera.position.clone().sub(this.controls.target).normalize();
    this.look(towards, box.getCenter(new THREE.Vector3()), box.getSize(new THREE.Vector3()).length() / 2);
  }

  look(towards, middle, radius) {
    const distance = (radius / Math.sin((FOV * Math.PI) / 360)) * 1.02;
    this.controls.minDistance = radius * 0.1;
    this.controls.maxDistance = Math.max(distance * 6, 8);
    this.fly(middle.clone().addScaledVector(towards, distance), middle);
  }

  fly(position, target) {
    const from = { position: this.camera.position.clone(), target: this.controls.target.clone() };
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches || !from.position.length();
    const began = performance.now(), flight = (this.flight = {});
    const step = () => {
      if (this.flight !== flight) return;
      const share = still ? 1 : Math.min(1, (performance.now() - began) / 260), eased = 1 - (1 - share) ** 3;
      this.camera.position.lerpVectors(from.position, position, eased);
      this.controls.target.lerpVectors(from.target, target, eased);
      this.controls.update();
      this.invalidate();
      if (share < 1) requestAnimationFrame(step);
    };
    step();
  }

  size() {
    return { width: this.canvas.clientWidth || 1, height: this.canvas.clientHeight || 1 };
  }

  /** The camera's picture has the canvas' shape; its smaller side sees FOV. */
  aim() {
    const { width, height } = this.size();
    this.camera.aspect = width / height;
    this.camera.fov = (360 / Math.PI) * Math.atan(Math.tan((FOV * Math.PI) / 360) * Math.max(1, height / width));
    this.camera.setViewOffset(width, height, 0, TOOLS, width, height);
  }

  invalidate() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }

  draw() {
    if (!this.canvas.clientWidth) return;
    const { width, height } = this.size(), ratio = Math.min(devicePixelRatio, 2);
    if (this.renderer.getPixelRatio() !== ratio) this.renderer.setPixelRatio(ratio);
    const now = this.renderer.getSize(new THREE.Vector2());
    if (now.x !== width || now.y !== height) this.renderer.setSize(width, height, false);
    this.aim();
    this.renderer.render(this.scene, this.camera);
    if (this.model) {
      this.outline.draw(this.renderer, this.scene, this.camera, this.model.parts, this.selected, this.hovered);
      if (this.wipe !== null) this.drawBefore(HANDLE / 2 + this.wipe * (width - HANDLE), height);
    }
    this.drawn = (this.drawn ?? 0) + 1;
  }

  /** The object as it came, left of the wipe's edge. */
  drawBefore(width, height) {
    const { model, original } = this, look = model.look, visible = model.parts.map((part) => part.object.visible);
    const beside = this.scene.children.filter((child) => child.visible && child.userData.beside);
    for (const hidden of beside) hidden.visible = false;
    if (original) {
      model.root.visible = false;
      original.root.visible = true;
    } else {
      model.explode(0);
      model.show(new Set());
      model.paint({ own: true, wireframe: look.wireframe });
    }
    this.renderer.setScissorTest(true);
    this.renderer.setScissor(0, 0, width, height);
    this.renderer.render(this.scene, this.camera);
    this.renderer.setScissorTest(false);
    if (original) {
      model.root.visible = true;
      original.root.visible = false;
    } else {
      model.explode(this.amount);
      model.parts.forEach((part, index) => (part.object.visible = visible[index]));
      model.paint(look);
    }
    for (const hidden of beside) hidden.visible = true;
  }
}
