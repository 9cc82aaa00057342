/**
 * Draws the network with sigma (WebGL) and places it with ForceAtlas2 in a worker.
 * Owns:      the graph that is drawn, its places, the canvas and the worker. `close` ends all of them.
 * Invariant: a node keeps its place when others come; a new one starts beside an agent it talks with.
 */
import Graph from 'graphology';
import { inferSettings } from 'graphology-layout-forceatlas2';
import defaults from 'graphology-layout-forceatlas2/defaults.js';
import Sigma from 'sigma';
import type { NodeHoverDrawingFunction, NodeLabelDrawingFunction } from 'sigma/rendering';
import { shortAddress } from './format.js';
import type { LayoutJob, LayoutStep } from './layout-worker.js';
import type { NetworkModel } from './network-model.js';

interface NodeLook {
  x: number;
  y: number;
  size: number;
  label: string;
  color: string;
}
interface EdgeLook {
  size: number;
  weight: number;
  color: string;
}

export interface PictureOptions {
  /** Links of fewer messages are left out. */
  readonly least: number;
  /** Agents without any link are left out. */
  readonly linkedOnly: boolean;
  readonly chosen: string;
}

/** Beyond this a picture is a grey ball, and slow. */
export const MAX_LINKS = 3_000;
const NODE_FIELDS = 10;
const EDGE_FIELDS = 3;
const FIRST_ITERATIONS = 400;
const MORE_ITERATIONS = 80;
/** How long a link stays lit after a message. */
const LIT_MS = 900;
const FADE_STEP_MS = 150;
const FEW_NODES = 60;
/** Radius of the busiest agent among thousands, in pixels. */
const WIDEST_IN_CROWD = 6;
const BARNES_HUT_FROM = 400;

/** False where there is no WebGL: the table shows the same. */
export function canDraw(): boolean {
  return document.createElement('canvas').getContext('webgl2') !== null;
}

interface Palette {
  readonly node: string;
  readonly lit: string;
  readonly edge: string;
  readonly faint: string;
  readonly ink: string;
  readonly surface: string;
  readonly line: string;
}

export class NetworkPicture {
  private readonly graph = new Graph<NodeLook, EdgeLook>({ type: 'undirected' });
  private readonly sigma: Sigma<NodeLook, EdgeLook>;
  private readonly worker = new Worker(new URL('./layout-worker.ts', import.meta.url), { type: 'module' });
  private readonly litUntilMs = new Map<string, number>();
  private palette: Palette;
  private chosen = '';
  private near: ReadonlySet<string> = new Set();
  private job = 0;
  private order: string[] = [];
  private fading = 0;

  constructor(
    container: HTMLElement,
    private readonly still: boolean,
    onChoose: (address: string) => void,
  ) {
    this.palette = readPalette(container);
    this.sigma = new Sigma<NodeLook, EdgeLook>(this.graph, container, {
      allowInvalidContainer: true,
      labelFont: 'ui-monospace, SFMono-Regular, Menlo, Consolas, monospace',
      labelSize: 11,
      labelWeight: '400',
      labelColor: { color: this.palette.ink },
      labelDensity: 0.5,
      labelGridCellSize: 110,
      labelRenderedSizeThreshold: 7,
      minEdgeThickness: 0.6,
      stagePadding: 40,
      zIndex: true,
      minCameraRatio: 0.02,
      maxCameraRatio: 4,
      defaultDrawNodeLabel: this.drawLabel,
      defaultDrawNodeHover: this.drawHover,
      nodeReducer: (node, data) => this.nodeLook(node, data),
      edgeReducer: (edge, data) => this.edgeLook(edge, data),
    });
    this.sigma.on('clickNode', ({ node }) => onChoose(node));
    this.sigma.on('clickStage', () => onChoose(''));
    this.worker.onmessage = (message: MessageEvent<LayoutStep>) => this.place(message.data);
  }

  close(): void {
    window.clearTimeout(this.fading);
    this.worker.terminate();
    this.sigma.kill();
  }

  /** Brings nodes and links in line with the model; lays out anew when the shape has changed. */
  show(model: NetworkModel, options: PictureOptions): void {
    const { graph } = this;
    const wasEmpty = graph.order === 0;
    const links = model.strongest(options.least, MAX_LINKS);
    const linked = new Set(links.flatMap(({ a, b }) => [a, b]));
    let shapeChanged = false;
    for (const address of graph.nodes()) {
      if (model.talkers.has(address) && (!options.linkedOnly || linked.has(address))) continue;
      graph.dropNode(address);
      shapeChanged = true;
    }
    let traffic = 1;
    for (const { sent, received } of model.talkers.values()) traffic = Math.max(traffic, sent + received);
    const wanted = new Set(links.map(({ key }) => key));
    for (const edge of graph.edges()) {
      if (wanted.has(edge)) continue;
      graph.dropEdge(edge);
      shapeChanged = true;
    }
    const shown = options.linkedOnly ? linked.size : model.talkers.size;
    const widest = Math.min(14, Math.max(WIDEST_IN_CROWD, 110 / Math.sqrt(Math.max(1, shown))));
    const smallest = widest / 4;
    for (const { address, sent, received } of model.talkers.values()) {
      if (options.linkedOnly && !linked.has(address)) continue;
      const size = smallest + (widest - smallest) * Math.sqrt((sent + received) / traffic);
      if (graph.hasNode(address)) {
        graph.setNodeAttribute(address, 'size', size);
        continue;
      }
      const start = this.startPlace(address, model);
      graph.addNode(address, { ...start, size, label: shortAddress(address), color: this.palette.node });
      shapeChanged = true;
    }
    const most = links.reduce((highest, { count }) => Math.max(highest, count), 1);
    for (const { key, a, b, count } of links) {
      const look = { size: 0.6 + 4 * Math.sqrt(count / most), weight: 1 + Math.log(count) };
      if (graph.hasEdge(key)) graph.mergeEdgeAttributes(key, look);
      else {
        graph.addEdgeWithKey(key, a, b, { ...look, color: this.palette.edge });
        shapeChanged = true;
      }
    }
    // A few agents are all named; of many the busiest, as far as there is room.
    const few = graph.order <= FEW_NODES;
    this.sigma.setSetting('labelDensity', few ? 4 : 0.5);
    this.sigma.setSetting('labelRenderedSizeThreshold', few ? 0 : widest * 0.6);
    this.choose(options.chosen, model);
    if (shapeChanged) this.layOut(wasEmpty ? FIRST_ITERATIONS : MORE_ITERATIONS);
  }

  choose(address: string, model: NetworkModel): void {
    this.chosen = this.graph.hasNode(address) ? address : '';
    this.near = this.chosen === '' ? new Set() : model.neighbours(address);
    this.sigma.refresh({ skipIndexation: true });
  }

  /** Lights the links (and the agents at their ends) over which messages just went. */
  light(keys: readonly string[]): void {
    const untilMs = performance.now() + LIT_MS;
    for (const key of keys) {
      if (!this.graph.hasEdge(key)) continue;
      this.litUntilMs.set(key, untilMs);
      for (const end of this.graph.extremities(key)) this.litUntilMs.set(end, untilMs);
    }
    if (this.fading === 0 && this.litUntilMs.size > 0) this.fade();
  }

  /** Colours are the style sheet's: read again when light and dark change. */
  recolour(): void {
    this.palette = readPalette(this.sigma.getContainer());
    this.sigma.setSetting('labelColor', { color: this.palette.ink });
    this.sigma.refresh();
  }

  zoom(by: number): void {
    const camera = this.sigma.getCamera();
    const ratio = camera.getBoundedRatio(camera.ratio / by);
    if (this.still) camera.setState({ ratio });
    else void camera.animate({ ratio }, { duration: 150 });
  }

  fit(): void {
    this.sigma.getCamera().setState({ x: 0.5, y: 0.5, ratio: 1, angle: 0 });
  }

  private fade(): void {
    const nowMs = performance.now();
    for (const [key, untilMs] of this.litUntilMs) if (untilMs < nowMs) this.litUntilMs.delete(key);
    this.sigma.refresh({ skipIndexation: true });
    this.fading = this.litUntilMs.size === 0 ? 0 : window.setTimeout(() => this.fade(), FADE_STEP_MS);
  }

  private startPlace(address: string, model: NetworkModel): { x: number; y: number } {
    for (const other of model.neighbours(address)) {
      if (!this.graph.hasNode(other)) continue;
      const { x, y } = this.graph.getNodeAttributes(other);
      const angle = turnOf(address);
      return { x: x + 3 * Math.cos(angle), y: y + 3 * Math.sin(angle) };
    }
    const angle = turnOf(address);
    const far = 100 * Math.sqrt(turnOf(`${address}r`) / (2 * Math.PI));
    return { x: far * Math.cos(angle), y: far * Math.sin(angle) };
  }

  private layOut(iterations: number): void {
    const { graph } = this;
    const index = new Map<string, number>();
    const nodes = new Float32Array(graph.order * NODE_FIELDS);
    this.order = graph.nodes();
    this.order.forEach((address, at) => {
      const { x, y } = graph.getNodeAttributes(address);
      // x, y, dx, dy, old dx, old dy, mass, convergence, size, fixed
      nodes.set([x, y, 0, 0, 0, 0, 1, 1, 1, 0], at * NODE_FIELDS);
      index.set(address, at * NODE_FIELDS);
    });
    const edges = new Float32Array(graph.size * EDGE_FIELDS);
    let at = 0;
    graph.forEachEdge((_edge, { weight }, a, b) => {
      const from = index.get(a) ?? 0;
      const to = index.get(b) ?? 0;
      edges.set([from, to, weight], at);
      nodes[from + 6] = (nodes[from + 6] ?? 0) + weight;
      nodes[to + 6] = (nodes[to + 6] ?? 0) + weight;
      at += EDGE_FIELDS;
    });
    const settings = {
      ...defaults,
      ...inferSettings(graph.order),
      barnesHutOptimize: graph.order > BARNES_HUT_FROM,
      gravity: graph.order > BARNES_HUT_FROM ? 4 : 1,
      scalingRatio: graph.order > BARNES_HUT_FROM ? 40 : 12,
      strongGravityMode: false,
    };
    this.job++;
    this.worker.postMessage({ id: this.job, nodes, edges, settings, iterations } satisfies LayoutJob);
  }

  private place({ id, nodes, done }: LayoutStep): void {
    if (id !== this.job || (this.still && !done)) return;
    this.order.forEach((address, at) => {
      if (!this.graph.hasNode(address)) return;
      const x = nodes[at * NODE_FIELDS] ?? 0;
      const y = nodes[at * NODE_FIELDS + 1] ?? 0;
      this.graph.mergeNodeAttributes(address, { x, y });
    });
    const container = this.sigma.getContainer();
    container.dataset.layout = done ? 'done' : 'running';
  }

  private nodeLook(node: string, data: NodeLook): Partial<NodeLook> & { zIndex?: number; forceLabel?: boolean } {
    const { palette } = this;
    if (this.chosen !== '' && node !== this.chosen && !this.near.has(node)) {
      return { ...data, color: palette.faint, label: '' };
    }
    if (node === this.chosen) return { ...data, color: palette.lit, zIndex: 2, forceLabel: true };
    const lit = this.litUntilMs.has(node);
    return { ...data, color: lit ? palette.lit : palette.node, zIndex: lit ? 1 : 0 };
  }

  private edgeLook(edge: string, data: EdgeLook): Partial<EdgeLook> & { zIndex?: number; hidden?: boolean } {
    const { palette } = this;
    if (this.chosen !== '' && !this.graph.extremities(edge).includes(this.chosen)) return { ...data, hidden: true };
    return this.litUntilMs.has(edge) ? { ...data, color: palette.lit, zIndex: 1 } : { ...data, color: palette.edge };
  }

  /** With a rim of the ground's colour: names stand over links and other agents. */
  private readonly drawLabel: NodeLabelDrawingFunction<NodeLook, EdgeLook> = (context, data, settings) => {
    const label = data.label ?? '';
    if (label === '') return;
    context.font = `${settings.labelWeight} ${settings.labelSize}px ${settings.labelFont}`;
    context.lineJoin = 'round';
    context.lineWidth = 3;
    context.strokeStyle = this.palette.surface;
    context.fillStyle = this.palette.ink;
    const left = data.x + data.size + 3;
    const baseline = data.y + settings.labelSize / 3;
    context.strokeText(label, left, baseline);
    context.fillText(label, left, baseline);
  };

  private readonly drawHover: NodeHoverDrawingFunction<NodeLook, EdgeLook> = (context, data, settings) => {
    const label = data.label ?? '';
    context.font = `${settings.labelWeight} ${settings.labelSize}px ${settings.labelFont}`;
    const width = context.measureText(label).width + 12;
    const height = settings.labelSize + 10;
    const left = data.x + data.size + 4;
    context.fillStyle = this.palette.surface;
    context.strokeStyle = this.palette.line;
    context.beginPath();
    context.roundRect(left, data.y - height / 2, width, height, 4);
    context.fill();
    context.stroke();
    context.fillStyle = this.palette.ink;
    context.fillText(label, left + 6, data.y + settings.labelSize / 3);
  };
}

/** A direction for an address, always the same: 0 to 2π, by FNV-1a. */
function turnOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  return ((hash >>> 0) / 2 ** 32) * 2 * Math.PI;
}

function readPalette(container: HTMLElement): Palette {
  const style = getComputedStyle(container);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  return {
    node: colour('--graph-node'),
    lit: colour('--graph-lit'),
    edge: colour('--graph-edge'),
    faint: colour('--graph-faint'),
    ink: colour('--ink'),
    surface: colour('--surface'),
    line: colour('--line'),
  };
}
