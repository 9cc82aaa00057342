/**
 * The engine's host process and its shard threads, bundled as the build bundles the server: a check that kills starts
 * several of them, and loading a hundred modules each time cost more than all that is tested.
 * Owns: the bundle's directory, beside the compiled tests, where packages are found; gone when this process ends.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const DIRECTORY = fileURLToPath(new URL(`./host-${process.pid}/`, import.meta.url));

/** Resolves to the file to start the host from. Takes a quarter of a second: call once. */
export async function bundleHost(): Promise<string> {
  process.once('exit', () => rmSync(DIRECTORY, { recursive: true, force: true }));
  const bundle = await rolldown({
    input: {
      'sharded-host': compiled('./sharded-host.js'),
      'shards/shard-worker': compiled('../../src/shards/shard-worker.js'),
    },
    platform: 'node',
    external: ['lmdb', 'rolldown'],
    resolve: { mainFields: ['module', 'main'] },
  });
  // The names that src/installed-files.ts goes by, as in bundle.mjs.
  const output = { format: 'esm', entryFileNames: '[name].js', chunkFileNames: 'chunk-[name].js' } as const;
  await bundle.write({ dir: DIRECTORY, ...output });
  await bundle.close();
  return join(DIRECTORY, 'sharded-host.js');
}

function compiled(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url));
}
