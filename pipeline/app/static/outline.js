// Outlines of what is selected and of what the pointer is over, drawn over the picture: a mask of their pixels, and its rim.

const VERTEX = "varying vec2 at; void main() { at = uv; gl_Position = vec4(position.xy, 0.0, 1.0); }";
const FRAGMENT = `
  uniform sampler2D mask; uniform vec2 pixel; uniform vec3 chosen, touched; varying vec2 at;
  void main() {
    vec2 here = texture2D(mask, at).rg, most = here;
    for (int x = -2; x <= 2; x++) for (int y = -2; y <= 2; y++) {
      if (x * x + y * y < 6) most = max(most, texture2D(mask, at + vec2(x, y) * pixel).rg);
    }
    vec2 rim = step(0.5, most) * step(here, vec2(0.5));
    gl_FragColor = rim.r > 0.5 ? vec4(chosen, 1.0) : vec4(touched, 0.75 * rim.g);
  }`;

export class Outline {
  constructor() {
    this.target = new THREE.WebGLRenderTarget(1, 1);
    this.uniforms = {
      mask: { value: this.target.texture },
      pixel: { value: new THREE.Vector2() },
      chosen: { value: new THREE.Color() },
      touched: { value: new THREE.Color() },
    };
    this.red = new THREE.MeshBasicMaterial({ color: 0xff0000, side: 2 });
    this.green = new THREE.MeshBasicMaterial({ color: 0x00ff00, side: 2 });
    const material = new THREE.ShaderMaterial({
      vertexShader: VERTEX, fragmentShader: FRAGMENT, uniforms: this.uniforms,
      transparent: true, depthTest: false, depthWrite: false,
    });
    this.scene = new THREE.Scene();
    this.scene.add(new THREE.Mesh(new THREE.PlaneGeometry(2, 2), material));
    this.camera = new THREE.OrthographicCamera();
  }

  /** Colours as CSS has them. */
  colours(chosen, touched) {
    this.uniforms.chosen.value.setStyle(chosen, "");
    this.uniforms.touched.value.setStyle(touched, "");
  }

  /** `parts` have `object` and `meshes`; those of the labels `chosen`, and `touched`, get outlines. */
  draw(renderer, scene, camera, parts, chosen, touched) {
    const shown = parts.filter((part) => part.object.visible && (chosen.has(part.label) || part.label === touched));
    if (!shown.length) return;
    const size = renderer.getDrawingBufferSize(new THREE.Vector2());
    this.target.setSize(size.x, size.y);
    this.uniforms.pixel.value.set(1 / size.x, 1 / size.y);
    const rest = parts.filter((part) => part.object.visible && !shown.includes(part));
    const before = new Map();
    for (const part of shown) {
      for (const mesh of part.meshes) {
        before.set(mesh, mesh.material);
        mesh.material = chosen.has(part.label) ? this.red : this.green;
      }
    }
    const others = scene.children.filter((child) => child.visible && child.userData.beside);
    for (const hidden of others) hidden.visible = false;
    for (const part of rest) part.object.visible = false;
    const clear = renderer.getClearAlpha();
    renderer.setRenderTarget(this.target);
    renderer.setClearAlpha(0);
    renderer.clear();
    renderer.render(scene, camera);
    renderer.setRenderTarget(null);
    renderer.setClearAlpha(clear);
    for (const part of rest) part.object.visible = true;
    for (const hidden of others) hidden.visible = true;
    for (const [mesh, material] of before) mesh.material = material;
    renderer.autoClear = false;
    renderer.render(this.scene, this.camera);
    renderer.autoClear = true;
  }
}
