import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

/**
 * Bundles the observation page (src/observe/web) into dist/observe/web, where the observer serves it from.
 * Nothing may need more than `script-src 'self'; style-src 'self'; img-src 'self' data:`: no inlined assets, no
 * polyfill in the HTML, one style sheet.
 */
export default defineConfig({
  root: fileURLToPath(new URL('src/observe/web', import.meta.url)),
  base: './',
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    outDir: fileURLToPath(new URL('dist/observe/web', import.meta.url)),
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    rolldownOptions: { checks: { pluginTimings: false } },
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 600,
  },
  worker: { format: 'es' },
});
