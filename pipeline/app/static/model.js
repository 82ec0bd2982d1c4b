// An object in 3D: its pieces, which are atoms of its own surface or whole parts, and the parts that they are grouped into.

const AWAY = 0.9; // how far the farthest part moves when parts are pulled apart, in radii of the object

/** Reads a GLB; gives its scene. */
export async function loadGlb(address) {
  const answer = await fetch(address, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`The 3D file cannot be fetched (${answer.status}).`);
  return (await new THREE.GLTFLoader().parseAsync(await answer.arrayBuffer(), "")).scene;
}

export class Model {
  /** `pieces` maps numbers to nodes: atoms from 0, or labels of parts where there are no atoms. */
  constructor(scene, ofAtoms) {
    this.root = new THREE.Group();
    this.ofAtoms = ofAtoms;
    this.parts = [];
    this.pieces = new Map();
    this.look = { own: false, wireframe: false };
    scene.updateMatrixWorld(true);
    [...scene.children].forEach((node, index) => {
      const number = ofAtoms ? Number(node.name.replace(/^atom-?/, "")) : (node.userData.part ?? index + 1);
      const meshes = [];
      node.traverse((mesh) => {
        if (!mesh.isMesh) return;
        for (const material of [mesh.material].flat()) material.metalness = 0; // nothing is around to be mirrored
        mesh.userData.own = mesh.material;
        mesh.geometry.computeBoundingSphere();
        meshes.push(mesh);
      });
      this.pieces.set(number, { node, meshes });
    });
    const box = new THREE.Box3().setFromObject(scene);
    this.middle = box.getCenter(new THREE.Vector3());
    this.radius = Math.max(box.getSize(new THREE.Vector3()).length() / 2, 1e-3);
    this.ground = box.min.y;
  }

  /** Sums of triangles' areas, one for each atom, where the server does not say them. */
  areas() {
    const one = new THREE.Vector3(), two = new THREE.Vector3(), three = new THREE.Vector3();
    const areaOf = ({ geometry, matrixWorld }) => {
      const at = geometry.attributes.position, index = geometry.index;
      let sum = 0;
      for (let k = 0, count = index ? index.count : at.count; k < count; k += 3) {
        [one, two, three].forEach((corner, side) => {
          corner.fromBufferAttribute(at, index ? index.getX(k + side) : k + side).applyMatrix4(matrixWorld);
        });
        sum += two.sub(one).cross(three.sub(one)).length() / 2;
      }
      return sum;
    };
    return [...Array(this.pieces.size).keys()].map((number) => {
      return (this.pieces.get(number)?.meshes ?? []).reduce((sum, mesh) => sum + areaOf(mesh), 0);
    });
  }

  /** Groups the pieces: `parts` are {label, pieces: numbers, colour}. */
  group(parts) {
    for (const { object, flat } of this.parts) {
      this.root.remove(object);
      flat.dispose();
    }
    this.parts = parts.map(({ label, pieces, colour }) => {
      const object = new THREE.Group(), meshes = [];
      const flat = new THREE.MeshStandardMaterial({ color: colour, roughness: 0.85, side: 2 });
      for (const number of pieces) {
        const piece = this.pieces.get(number);
        if (!piece) continue;
        object.add(piece.node);
        meshes.push(...piece.meshes);
      }
      for (const mesh of meshes) mesh.userData.label = label;
      const box = new THREE.Box3().setFromObject(object);
      const centre = box.isEmpty() ? this.middle.clone() : box.getCenter(new THREE.Vector3());
      this.root.add(object);
      return { label, object, meshes, flat, centre, away: centre.clone().sub(this.middle) };
    });
    const farthest = Math.max(...this.parts.map((part) => part.away.length()), 0);
    this.parts.forEach((part, index) => {
      if (farthest > 1e-3 * this.radius) part.away.multiplyScalar((AWAY * this.radius) / farthest);
      else part.away.set(0, this.parts.length > 1 ? AWAY * this.radius * (1 - (2 * index) / (this.parts.length - 1)) : 0, 0);
    });
    this.paint();
  }

  /** In their own materials or in the colours of their parts. */
  paint(look = this.look) {
    this.look = look;
    for (const { meshes, flat } of this.parts) {
      for (const mesh of meshes) {
        mesh.material = look.own ? mesh.userData.own : flat;
        for (const material of [mesh.material].flat()) material.wireframe = look.wireframe;
      }
    }
  }

  recolour(label, colour) {
    this.part(label)?.flat.color.set(colour);
  }

  /** Pulled apart by an amount from 0 to 1. */
  explode(amount) {
    for (const { object, away } of this.parts) object.position.copy(away).multiplyScalar(amount);
  }

  show(hidden) {
    for (const { label, object } of this.parts) object.visible = !hidden.has(label);
  }

  part(label) {
    return this.parts.find((part) => part.label === label);
  }

  /** The piece that a mesh belongs to. */
  pieceOf(mesh) {
    for (const [number, { meshes }] of this.pieces) if (meshes.includes(mesh)) return number;
    return null;
  }

  dispose() {
    for (const { meshes } of this.pieces.values()) {
      for (const mesh of meshes) {
        mesh.geometry.dispose();
        for (const material of [mesh.userData.own].flat()) {
          for (const value of Object.values(material)) if (value?.isTexture) value.dispose();
          material.dispose();
        }
      }
    }
    for (const { flat } of this.parts) flat.dispose();
  }
}
