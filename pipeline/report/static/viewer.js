"use strict";
// The 3D views of a page that was opened from disk: turn an object, name, hide and pull apart its parts.
//
// A model is a file models/KEY.js beside the page, which hands its gzipped GLB over as base64: a script is the one kind of
// file that such a page may load. All views share one WebGL context, as browsers allow a page few of them, and draw only
// when something changed. `partgen.views` holds the views by the id of their element.
window.partgen = (() => {
  const AWAY = 0.9; // how far the farthest part moves when parts are pulled apart, in radii of the object
  const FOV = 40, DISTANCE = 3.1, AZIMUTH = Math.PI / 6, ELEVATION = Math.PI / 9; // as the renders, from a corner
  const TURN = Math.PI / 18, ZOOM = 1.15; // a key's step
  const palette = document.querySelector("main").dataset.palette.split(" ");
  const waiting = new Map(), models = new Map(), views = new Map();
  let renderer;

  function receive(key, text) {
    waiting.get(key)(text);
  }

  function load(key) {
    if (!models.has(key)) models.set(key, fetchText(key).then(unpack).then((glb) => new THREE.GLTFLoader().parseAsync(glb, "")));
    return models.get(key);
  }

  function fetchText(key) {
    return new Promise((resolve, reject) => {
      waiting.set(key, resolve);
      const script = document.createElement("script");
      script.onerror = () => reject(new Error(`models/${key}.js is missing beside this page`));
      script.src = `models/${key}.js`;
      document.head.append(script);
    });
  }

  function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  function partsOf(scene) {
    const parts = scene.children.map((object, index) => {
      const id = object.userData.part ?? index + 1;
      const centre = new THREE.Box3().setFromObject(object).getCenter(new THREE.Vector3());
      const home = object.position.clone(); // parts of results stand at their own centres
      const part = { id, name: object.userData.name || object.name, object, home, centre, meshes: [] };
      object.traverse((mesh) => {
        if (!mesh.isMesh) return;
        mesh.material.metalness = 0; // there is nothing around to be mirrored, so that metal would be black
        const flat = new THREE.MeshStandardMaterial({ color: colourOf(id), side: mesh.material.side, roughness: 0.9 });
        part.meshes.push({ mesh, own: mesh.material, flat });
      });
      return part;
    });
    const middle = new THREE.Box3().setFromObject(scene).getCenter(new THREE.Vector3());
    for (const part of parts) part.away = part.centre.clone().sub(middle);
    const farthest = Math.max(...parts.map((part) => part.away.length()));
    parts.forEach((part, index) => {
      if (farthest > 1e-3) part.away.multiplyScalar(AWAY / farthest);
      else part.away.set(0, AWAY * (parts.length > 1 ? 1 - (2 * index) / (parts.length - 1) : 0), 0); // one in another
    });
    return parts;
  }

  function colourOf(id) {
    return id ? palette[(id - 1) % palette.length] : "#8a939b"; // 0 is the whole
  }

  class View {
    constructor(root) {
      this.root = root;
      this.canvas = root.querySelector("canvas");
      this.paper = this.canvas.getContext("2d");
      this.status = root.querySelector(".status");
      this.list = root.querySelector(".parts");
      this.hover = root.querySelector(".hover");
      this.slider = root.querySelector("[name=explode]");
      this.colours = root.querySelector("[name=colours]");
      this.parts = [];
      this.caster = new THREE.Raycaster();
      this.camera = new THREE.PerspectiveCamera(FOV, 1, 0.05, 50);
      const lamp = new THREE.DirectionalLight(0xffffff, 2.1);
      lamp.position.set(0.5, 1, 0.6);
      this.camera.add(lamp);
      this.scene = new THREE.Scene();
      this.scene.add(this.camera, new THREE.AmbientLight(0xffffff, 1.2));
      this.controls = new THREE.OrbitControls(this.camera, this.canvas);
      this.controls.enablePan = false;
      this.controls.enableZoom = false;
      this.controls.minDistance = 1.2;
      this.controls.maxDistance = 8;
      this.canvas.style.touchAction = "pan-y"; // a finger that scrolls the page is not caught
      this.reset();
      this.listen();
    }

    listen() {
      this.controls.addEventListener("change", () => this.draw());
      this.canvas.addEventListener("focus", () => (this.controls.enableZoom = true));
      this.canvas.addEventListener("blur", () => (this.controls.enableZoom = false));
      this.canvas.addEventListener("keydown", (event) => this.key(event));
      this.canvas.addEventListener("pointermove", (event) => this.name(event));
      this.canvas.addEventListener("pointerleave", () => this.tell());
      this.slider.addEventListener("input", () => this.explode());
      this.colours.addEventListener("change", () => this.paint());
      this.root.querySelector("[name=reset]").addEventListener("click", () => this.reset());
      for (const choice of this.root.querySelectorAll("[data-model]")) {
        choice.addEventListener("change", () => this.show(choice.dataset.model));
      }
      new ResizeObserver(() => this.draw()).observe(this.canvas);
    }

    reset() {
      const flat = Math.cos(ELEVATION) * DISTANCE;
      this.camera.position.set(Math.sin(AZIMUTH) * flat, Math.sin(ELEVATION) * DISTANCE, Math.cos(AZIMUTH) * flat);
      this.slider.value = 0;
      this.controls.update();
      this.explode();
    }

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
    }

    async show(key) {
      this.wanted = key;
      this.root.dataset.state = "loading";
      this.say("Loading…");
      try {
        const model = await load(key);
        if (this.wanted !== key) return;
        this.scene.remove(this.model);
        this.model = model.scene;
        this.scene.add(this.model);
        this.parts = model.parts ??= partsOf(model.scene);
        this.slider.disabled = this.parts.length < 2;
        this.fillList();
        this.paint();
        this.explode();
        this.say("");
        this.root.dataset.state = "ready";
      } catch (error) {
        this.say(`This model cannot be shown: ${error.message}.`);
        this.root.dataset.state = "failed";
      }
    }

    name(event) {
      if (event.buttons || !this.parts.length) return this.tell(); // it is being turned
      const box = this.canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      this.caster.setFromCamera(new THREE.Vector2((2 * x) / box.width - 1, 1 - (2 * y) / box.height), this.camera);
      const shown = this.parts.filter((part) => part.object.visible);
      const [hit] = this.caster.intersectObjects(shown.map((part) => part.object));
      const part = hit && shown.find(({ meshes }) => meshes.some(({ mesh }) => mesh === hit.object));
      this.tell(part, x, y);
    }

    tell(part, x, y) {
      this.hover.hidden = !part;
      for (const [index, item] of [...this.list.children].entries()) {
        item.classList.toggle("pointed", this.parts[index] === part);
      }
      if (!part) return;
      this.hover.textContent = part.name;
      this.hover.style.translate = `${x}px ${y}px`;
    }

    fillList() {
      this.list.replaceChildren(
        ...this.parts.map((part) => {
          const item = document.createElement("li"), label = document.createElement("label");
          const box = document.createElement("input"), swatch = document.createElement("span");
          box.type = "checkbox";
          box.checked = part.object.visible;
          box.addEventListener("change", () => {
            part.object.visible = box.checked;
            this.draw();
          });
          swatch.className = "swatch";
          swatch.style.background = colourOf(part.id);
          label.append(box, swatch, part.name);
          item.append(label);
          return item;
        }),
      );
    }

    paint() {
      for (const { meshes } of this.parts) {
        for (const { mesh, own, flat } of meshes) mesh.material = this.colours.checked ? flat : own;
      }
      this.draw();
    }

    explode() {
      const amount = this.parts.length > 1 ? Number(this.slider.value) : 0;
      for (const { object, home, away } of this.parts) object.position.copy(home).addScaledVector(away, amount);
      this.model?.scale.setScalar(1 / (1 + AWAY * amount)); // so that it still fits
      this.draw();
    }

    draw() {
      if (!this.model || !this.canvas.clientWidth) return;
      const ratio = Math.min(window.devicePixelRatio, 2);
      const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
      if (this.canvas.width !== width || this.canvas.height !== height) {
        this.canvas.width = width;
        this.canvas.height = height;
      }
      renderer.setSize(width, height, false);
      this.camera.aspect = width / height;
      this.camera.fov = FOV * Math.max(1, height / width); // the whole object fits a tall view, too
      this.camera.updateProjectionMatrix();
      renderer.render(this.scene, this.camera);
      this.paper.clearRect(0, 0, width, height);
      this.paper.drawImage(renderer.domElement, 0, 0);
    }

    say(text) {
      this.status.textContent = text;
      this.status.hidden = !text;
    }
  }

  function open(root) {
    try {
      renderer ??= new THREE.WebGLRenderer({ alpha: true, antialias: true });
    } catch {
      root.querySelector(".status").textContent = "This browser has no WebGL, so that it cannot show the object in 3D.";
      return;
    }
    const view = new View(root);
    views.set(root.id, view);
    view.show(root.querySelector("[data-model]:checked").dataset.model);
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((found) => found.isIntersecting)) {
        near.unobserve(entry.target);
        open(entry.target);
      }
    },
    { rootMargin: "300px" },
  );
  for (const root of document.querySelectorAll(".viewer")) near.observe(root);
  return { receive, views };
})();
