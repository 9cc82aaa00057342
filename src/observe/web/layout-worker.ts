/**
 * Places the network's nodes by ForceAtlas2 (Jacomy et al., PLOS ONE 2014) in a thread of its own: two thousand agents never
 * make the page stutter. Keeps the matrices between steps, so that the algorithm's slowing down works.
 */
import iterate, { type LayoutSettings } from 'graphology-layout-forceatlas2/iterate.js';

export interface LayoutJob {
  readonly id: number;
  /** Ten numbers a node, as the algorithm has them. */
  readonly nodes: Float32Array;
  /** Three numbers an edge: offset of either node, weight. */
  readonly edges: Float32Array;
  readonly settings: LayoutSettings;
  readonly iterations: number;
}

export interface LayoutStep {
  readonly id: number;
  readonly nodes: Float32Array;
  readonly done: boolean;
}

/** Positions are sent this often. */
const STEP_MS = 40;

let current = 0;

self.onmessage = (message: MessageEvent<LayoutJob>): void => {
  current = message.data.id;
  work(message.data, 0);
};

function work(job: LayoutJob, from: number): void {
  if (job.id !== current) return;
  const endMs = performance.now() + STEP_MS;
  let iteration = from;
  while (iteration < job.iterations && performance.now() < endMs) {
    iterate(job.settings, job.nodes, job.edges);
    iteration++;
  }
  const done = iteration >= job.iterations;
  self.postMessage({ id: job.id, nodes: job.nodes.slice(), done } satisfies LayoutStep);
  if (!done) setTimeout(() => work(job, iteration)); // so that a newer job gets in between
}
