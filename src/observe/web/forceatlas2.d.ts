/** One step of the algorithm, which the package ships without types. */
declare module 'graphology-layout-forceatlas2/iterate.js' {
  import type { ForceAtlas2Settings } from 'graphology-layout-forceatlas2';

  export type LayoutSettings = Required<ForceAtlas2Settings>;
  /** Moves `nodes` in place. */
  export default function iterate(settings: LayoutSettings, nodes: Float32Array, edges: Float32Array): unknown;
}

declare module 'graphology-layout-forceatlas2/defaults.js' {
  import type { LayoutSettings } from 'graphology-layout-forceatlas2/iterate.js';

  const defaults: LayoutSettings;
  export default defaults;
}
