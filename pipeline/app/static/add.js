// Something new beside the parts, by text, picture or 3D file: a box in the view says where it goes, moved by hand or by numbers.

import { upload } from "./api.js";
import { cutOut } from "./cutout.js";
import { find, told } from "./dom.js";

export class AddPanel {
  constructor(root, bench) {
    this.root = root;
    this.bench = bench;
    this.form = find("#add", root);
    this.stage = bench.stage;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.form.addEventListener("change", () => this.show());
    for (const field of this.fields()) field.addEventListener("input", () => this.toBox());
    for (const mode of this.form.querySelectorAll("[name=mode]")) mode.addEventListener("change", () => this.gizmo?.setMode(mode.value));
    find("#add-file").addEventListener("change", () => this.preview());
    bench.addEventListener("doc", () => (find("#add-go").disabled = Boolean(bench.doc.busy)));
  }

  fields() {
    return this.form.querySelectorAll("[data-axis], [name=scale]");
  }

  /** The panel is there or gone. */
  open(on) {
    this.visible = on;
    this.show();
  }

  show() {
    const kind = new FormData(this.form).get("kind"), byHand = find("[name=place]", this.form).checked;
    find("#add-text-box").hidden = kind !== "text";
    find("#add-file-box").hidden = kind === "text";
    find("#add-file").accept = kind === "picture" ? ".png,.jpg,.jpeg,.webp" : ".glb,.zip,.obj,.ply,.stl";
    find("#add-where").hidden = !byHand;
    const wanted = Boolean(this.visible && byHand && this.bench.doc);
    if (wanted && !this.box) this.putBox();
    if (wanted && !this.box.visible) this.stage.wide();
    if (this.box) {
      if (this.thing) {
        this.box.add(this.thing);
        this.thing.visible = kind === "object";
      }
      this.box.visible = this.handle.visible = wanted;
      this.gizmo.enabled = wanted;
      this.toBox();
    }
  }

  putBox() {
    const edges = new THREE.EdgesGeometry(new THREE.BoxGeometry(1.15, 1.15, 1.15));
    this.box = new THREE.LineSegments(edges, new THREE.LineBasicMaterial({ color: 0x2f7fd6 }));
    this.box.userData.beside = true;
    this.box.visible = false;
    this.gizmo = new THREE.TransformControls(this.stage.camera, this.stage.canvas);
    this.gizmo.attach(this.box);
    this.gizmo.setSize(0.8);
    this.gizmo.addEventListener("change", () => this.stage.invalidate());
    this.gizmo.addEventListener("objectChange", () => this.fromBox());
    this.gizmo.addEventListener("dragging-changed", ({ value }) => {
      this.stage.controls.enabled = !value;
      this.before = this.box.scale.x;
    });
    this.handle = this.gizmo.getHelper();
    this.handle.userData.beside = true;
    this.stage.gizmo = this.gizmo;
    this.stage.scene.add(this.box, this.handle);
  }

  /** A GLB is shown where it will be; of other files, and of what is not yet drawn, the box alone. */
  async preview() {
    const [file] = find("#add-file").files;
    if (this.thing) {
      this.box?.remove(this.thing);
      this.thing = null;
    }
    if (file && /\.glb$/i.test(file.name)) {
      try {
        const { scene } = await new THREE.GLTFLoader().parseAsync(await file.arrayBuffer(), "");
        const box = new THREE.Box3().setFromObject(scene), size = box.getSize(new THREE.Vector3()).length() / 2;
        scene.position.sub(box.getCenter(new THREE.Vector3()));
        this.thing = new THREE.Group().add(scene);
        this.thing.scale.setScalar(1 / Math.max(size, 1e-9));
      } catch {
        this.thing = null; // the server says what is wrong with it
      }
    }
    this.show();
  }

  number(name) {
    return Number(find(`[name=${name}]`, this.form).value) || 0;
  }

  toBox() {
    if (!this.box) return;
    this.box.position.set(this.number("x"), this.number("y"), this.number("z"));
    this.box.scale.setScalar(Math.max(0.01, this.number("scale")));
    this.box.rotation.set(...["turn_x", "turn_y", "turn_z"].map((name) => THREE.MathUtils.degToRad(this.number(name))));
    this.stage.invalidate();
  }

  fromBox() {
    const { position, scale, rotation } = this.box, far = (size) => Math.abs(size - this.before);
    const [size] = [scale.x, scale.y, scale.z].sort((one, other) => far(other) - far(one));
    scale.setScalar(Math.max(0.01, size)); // one size for all axes
    const put = (name, value, digits) => (find(`[name=${name}]`, this.form).value = Number(value.toFixed(digits)));
    for (const axis of ["x", "y", "z"]) {
      put(axis, position[axis], 2);
      put(`turn_${axis}`, THREE.MathUtils.radToDeg(rotation[axis]), 0);
    }
    put("scale", scale.x, 2);
  }

  async send() {
    const { doc } = this.bench, values = new FormData(this.form), kind = values.get("kind");
    const name = values.get("name").trim(), options = name ? { name } : {};
    if (find("[name=place]", this.form).checked) {
      options.place = ["x", "y", "z"].map((axis) => this.number(axis));
      options.scale = this.number("scale");
      const turn = ["turn_x", "turn_y", "turn_z"].map((axis) => this.number(axis));
      if (turn.some(Boolean)) options.turn = turn;
    }
    const body = { command: "add", object: doc.id, version: doc.version, options };
    await told(async () => {
      if (kind === "text") {
        body.prompt = values.get("text").trim();
        if (!body.prompt) throw new Error("Say in a few words what is to be added.");
      } else {
        const [file] = find("#add-file").files;
        if (!file) throw new Error(kind === "picture" ? "Choose a picture of what is to be added." : "Choose a 3D file that is to be added.");
        const sent = await upload(file);
        if (sent.kind === "picture" && !(await cutOut(sent))) return;
        body.upload = sent.id;
      }
      await this.bench.submit(body);
      find("#add-file").value = find("#add-text").value = "";
      find("[name=place]", this.form).checked = false;
      await this.preview();
    });
  }
}
