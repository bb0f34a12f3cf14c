import { gzipSync } from 'node:zlib';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

const FIRST_ROUTE_BUDGET = 70 * 1024;

/** Weighs what the first route loads, compressed, and fails the build when it is too heavy for a ward's network. */
function budget(): Plugin {
  return {
    name: 'budget',
    apply: 'build',
    enforce: 'post',
    writeBundle(_, bundle) {
      let total = 0;
      for (const part of Object.values(bundle)) {
        if (part.type === 'chunk' && part.isDynamicEntry) continue;
        total += gzipSync(part.type === 'chunk' ? part.code : part.source).length;
      }
      const words = `first route: ${(total / 1024).toFixed(1)} KB gzip of ${FIRST_ROUTE_BUDGET / 1024} KB`;
      if (total > FIRST_ROUTE_BUDGET) this.error(`${words}; load a screen lazily or take something out`);
      this.info(words);
    },
  };
}

export default defineConfig({
  plugins: [svelte(), budget()],
  worker: { format: 'es' },
  build: {
    // `light-dark()` needs these; nothing older gets a second palette.
    target: ['chrome123', 'firefox120', 'safari17.5'],
    // The page runs under `default-src 'self'`: no data: addresses, no inline script.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    emptyOutDir: true,
  },
  server: { proxy: { '/api': 'http://127.0.0.1:8080' } },
  test: { include: ['tests/**/*.test.ts'], environment: 'node', css: true },
});
