// What three.min.js holds of three.js 0.187.0, as one classic script that defines THREE: browsers refuse ES modules of a
// page that is opened from disk. The report and the page of `partgen app` share it. Made with this file as entry.js:
//
//   npm install three@0.187.0 esbuild@0.28.2
//   npx esbuild entry.js --bundle --minify --format=iife --global-name=THREE --legal-comments=eof --charset=utf8
//     --outfile=three.min.js
//
// Nothing in it was changed. Its licence is in three-LICENSE.txt.
export {
  AmbientLight,
  Box3,
  BoxGeometry,
  Color,
  DirectionalLight,
  EdgesGeometry,
  Euler,
  Group,
  HemisphereLight,
  LineBasicMaterial,
  LineSegments,
  MathUtils,
  Mesh,
  MeshBasicMaterial,
  MeshStandardMaterial,
  OrthographicCamera,
  PerspectiveCamera,
  PlaneGeometry,
  Raycaster,
  Scene,
  ShaderMaterial,
  Vector2,
  Vector3,
  WebGLRenderer,
  WebGLRenderTarget,
} from "three";
export { OrbitControls } from "three/addons/controls/OrbitControls.js";
export { TransformControls } from "three/addons/controls/TransformControls.js";
export { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
