/**
 * Bundles the server into dist: one file for the command line, one for each kind of thread, and the chunks they share.
 * Loading some hundred modules in each of eight threads cost more CPU time than all else that a start does.
 * Types are checked by `npm run typecheck`, not here. (Rolldown's own command has no way to be quiet.)
 */
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const projectDir = fileURLToPath(new URL('.', import.meta.url));

const bundle = await rolldown({
  cwd: projectDir,
  input: {
    main: 'src/main.ts',
    'shards/shard-worker': 'src/shards/shard-worker.ts',
    'gateway/gateway-worker': 'src/gateway/gateway-worker.ts',
    'auth-pool/bcrypt-worker': 'src/auth-pool/bcrypt-worker.ts',
    'observe/observer-worker': 'src/observe/observer-worker.ts',
    'webhooks/webhook-worker': 'src/webhooks/webhook-worker.ts',
  },
  platform: 'node',
  // Native code, or files of their own that they start threads from; undici is loaded late, and seldom.
  external: ['lmdb', 'piscina', 'undici', 'uWebSockets.js'],
  resolve: {
    extensionAlias: { '.js': ['.ts', '.js'] },
    // Where a package has both, the form that can be cut down to the functions used.
    mainFields: ['module', 'main'],
  },
});
await bundle.write({
  dir: process.argv[2] ?? 'dist',
  format: 'esm',
  sourcemap: true,
  entryFileNames: '[name].js',
  // At the top of dist, where src/installed-files.ts finds its neighbours; no hash, so that a build replaces the last.
  chunkFileNames: 'chunk-[name].js',
});
await bundle.close();
